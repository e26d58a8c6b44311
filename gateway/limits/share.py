"""Which part of a common limit one source may take.

Dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998): a
source may hold twice as much as is free. One busy source gets two thirds of the limit, two get two fifths each, and
there is always room for one that has nothing yet, without a quota for sources that send nothing.
"""

from enum import Enum, auto
from typing import Final

ALPHA: Final = 2
"""A source may hold so many times what is free."""


BYTES_AN_EVENT: Final = 4096
"""So many bytes weigh as much as one event; a batch of 4 MiB has room for about a thousand of either."""


def weight(count: int, size: int) -> int:
    """How much room events take: by number or by bytes, whichever is more.

    The dominant share, after Ghodsi et al., "Dominant resource fairness" (2011): a source of few large events takes as
    much of a pipeline as one of many small ones.
    """
    in_bytes = size // BYTES_AN_EVENT
    # Not `max`, which costs three times a comparison, for every request.
    return count if count >= in_bytes else in_bytes  # noqa: FURB136


class Room(Enum):
    """Whether there is room for a request."""

    FREE = auto()
    OWN_SHARE_TAKEN = auto()
    """The source itself holds what keeps it out."""
    ALL_TAKEN = auto()
    """The others hold it."""


def room_for(wanted: int, own: int, *, total: int, limit: int, most: int, sources: int) -> Room:
    """Whether a request of that weight fits.

    Args:
        wanted: The request's weight.
        own: What the source has in the pipeline.
        total: What all sources have there.
        limit: How much there should be.
        most: How much there may ever be.
        sources: How many sources have anything there.
    """
    if own + wanted <= ALPHA * (limit - total):
        return Room.FREE
    if total + wanted > most:
        return Room.ALL_TAKEN if own <= _even(limit, own, sources) else Room.OWN_SHARE_TAKEN
    # Whatever the others hold, a source has its even part; and every source gets on, one request at a time.
    if not own or own + wanted <= _even(limit, own, sources):
        return Room.FREE
    return Room.OWN_SHARE_TAKEN


def _even(limit: int, own: int, sources: int) -> int:
    """What each source would have if all that have something wanted more."""
    active = sources if own else sources + 1
    return ALPHA * limit // (1 + ALPHA * active)
