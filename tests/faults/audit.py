"""What clients were told, compared with what is on the topics: pure, on sets and counts.

A client's message is *accepted*, *rejected* or *filtered* once an answer 200 says so; `duplicate` counts as accepted,
for it says that the event is on the topic, and so does `deferred`, which promises it. What was never acknowledged may
be there or not, but not twice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

NO_KILL: Final = "no kill"
_KEPT: Final = frozenset({"accepted", "duplicate", "deferred"})


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

    @property
    def unanswered(self) -> set[str]:
        """Messages whose fate nobody was told."""
        return self.sent - self.accepted.keys() - self.rejected.keys() - self.filtered.keys()

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
class Double:
    """A message that stands more than once: the kill that explains it, and the seconds from the kill to each record."""

    cause: str
    seconds: list[float]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, message by message, with the process whose kill explains it as far as can be told.

    Attributes:
        lost: Accepted, and not on the events topic; or rejected, and not on the failed topic.
        doubled: More than once on the events topic, whether acknowledged or not.
        leaked: Filtered or rejected, and on the events topic all the same; filtered or accepted, and on the failed one.
        strangers: On the events topic, and sent by nobody.
        failed_again: More than once on the failed topic. No fault of the promise; counted beside it.
    """

    lost: dict[str, str]
    doubled: dict[str, Double]
    leaked: list[str]
    strangers: list[str]
    failed_again: int


def audit(claims: Claims, events: Copies, failed: Copies, kills: Sequence[Kill]) -> Findings:
    """Compare what was claimed with what is there."""
    lost = {name: at for name, at in claims.accepted.items() if name not in events}
    lost |= {name: at for name, at in claims.rejected.items() if name not in failed}
    refused = claims.filtered.keys() | claims.rejected.keys()
    sound = claims.filtered.keys() | claims.accepted.keys()
    return Findings(
        lost={name: _target(blame(kills, at)) for name, at in lost.items()},
        doubled={name: _double(kills, copies) for name, copies in events.items() if len(copies) > 1},
        leaked=sorted((refused & events.keys()) | (sound & failed.keys())),
        strangers=sorted(events.keys() - claims.sent),
        failed_again=sum(len(copies) > 1 for copies in failed.values()),
    )


def blame(kills: Iterable[Kill], moment: float, end: float = math.inf) -> Kill | None:
    """The first kill, up to `end`, whose process was down at the moment or went down after it; None: there is none."""
    under_way = (kill for kill in kills if kill.end >= moment and kill.start <= end)
    return min(under_way, key=lambda kill: kill.start, default=None)


def _target(kill: Kill | None) -> str:
    return kill.target if kill else NO_KILL


def _double(kills: Iterable[Kill], copies: Sequence[Copy]) -> Double:
    """Put down to what came after the first record: that was stored, and its client was not told."""
    moments = sorted(copy.moment for copy in copies)
    kill = blame(kills, moments[0], moments[-1])
    return Double(_target(kill), [round(moment - (kill.start if kill else moments[0]), 3) for moment in moments])
