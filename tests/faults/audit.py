"""What clients were told, compared with what is on the topics: pure, on sets and counts.

A client's message is *accepted*, *rejected* or *filtered* once an answer 200 says so; `duplicate` counts as accepted,
for it says that the event is on the topic. What was never acknowledged may be there or not, but not twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

NO_KILL: Final = "no kill"
_KEPT: Final = frozenset({"accepted", "duplicate"})


@dataclass(frozen=True, slots=True)
class Copy:
    """One record of a message: the producer's time in Unix seconds, and where it stands."""

    moment: float
    partition: int
    offset: int


Copies = Mapping[str, Sequence[Copy]]
"""The records of each message id on one topic."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was down from `start` to `end`, Unix seconds."""

    target: str
    start: float
    end: float


@dataclass(slots=True)
class Claims:
    """What clients know of their messages: which they sent, and the acknowledged ones with the moment of the answer."""

    sent: set[str] = field(default_factory=set)
    accepted: dict[str, float] = field(default_factory=dict)
    rejected: dict[str, float] = field(default_factory=dict)
    filtered: dict[str, float] = field(default_factory=dict)
    duplicates: int = 0
    """Messages that were acknowledged as duplicates; they are among the accepted ones."""

    @property
    def acknowledged(self) -> int:
        """Messages whose fate a client was told."""
        return len(self.accepted) + len(self.rejected) + len(self.filtered)

    def tell(self, message_id: str, verdict: str, moment: float) -> None:
        """Note an acknowledgement.

        Raises:
            ValueError: The verdict is none that the edge may give.
        """
        if verdict in _KEPT:
            self.accepted[message_id] = moment
            self.duplicates += verdict == "duplicate"
        elif verdict == "rejected":
            self.rejected[message_id] = moment
        elif verdict == "filtered":
            self.filtered[message_id] = moment
        else:
            raise ValueError(f"{message_id} has the verdict {verdict!r}")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, message by message, each with the process whose kill explains it as far as can be told.

    Attributes:
        lost: Accepted, and not on the events topic; or rejected, and not on the failed topic.
        doubled: More than once on the events topic, whether acknowledged or not.
        leaked: Filtered or rejected, and on the events topic all the same.
        strangers: On the events topic, and sent by nobody.
        failed_again: More than once on the failed topic. No fault of the promise; counted beside it.
    """

    lost: dict[str, str]
    doubled: dict[str, str]
    leaked: list[str]
    strangers: list[str]
    failed_again: int


def audit(claims: Claims, events: Copies, failed: Copies, kills: Sequence[Kill]) -> Findings:
    """Compare what was claimed with what is there."""
    lost = {name: at for name, at in claims.accepted.items() if name not in events}
    lost |= {name: at for name, at in claims.rejected.items() if name not in failed}
    refused = claims.filtered.keys() | claims.rejected.keys()
    return Findings(
        lost={name: blame(kills, at, None) for name, at in lost.items()},
        doubled={name: _blame_copies(kills, copies) for name, copies in events.items() if len(copies) > 1},
        leaked=sorted(refused & events.keys()),
        strangers=sorted(events.keys() - claims.sent),
        failed_again=sum(len(copies) > 1 for copies in failed.values()),
    )


def blame(kills: Iterable[Kill], start: float, end: float | None) -> str:
    """The process that was killed last within a span of time or was down at its start; `NO_KILL` when none was.

    Without an end the span is open: then it is the first such kill.
    """
    if end is None:
        later = [kill for kill in kills if kill.end >= start]
        return min(later, key=lambda kill: kill.start).target if later else NO_KILL
    within = [kill for kill in kills if kill.start <= end and kill.end >= start]
    return max(within, key=lambda kill: kill.start).target if within else NO_KILL


def _blame_copies(kills: Iterable[Kill], copies: Sequence[Copy]) -> str:
    moments = [copy.moment for copy in copies]
    return blame(kills, min(moments), max(moments))
