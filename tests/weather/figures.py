"""What a fault did to latency and order: pure, on moments and places."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tests.faults.audit import Copies
from tests.faults.result import quantile

_SLOW_SECONDS: Final = 0.5
_SLOW_FACTOR: Final = 3.0


class Probe(NamedTuple):
    """An event that was due at a moment and acknowledged at another, Unix seconds."""

    due: float
    acknowledged: float

    @property
    def seconds(self) -> float:
        """How long its client waited."""
        return self.acknowledged - self.due


class Latency(NamedTuple):
    """What a fault did.

    Attributes:
        before: p99 before it, seconds.
        during: p99 of what was due from its beginning until it was over and nothing was slow any more, or at least
            until its end.
        back: Seconds from its beginning until the last slow answer had come; 0 when none was slow.
    """

    before: float
    during: float
    back: float


def latency(probes: Iterable[Probe], begin: float, end: float) -> Latency:
    """Compare what was due before a fault with what was due from its beginning.

    Slow is an answer that takes more than half a second, and three times the p99 from before.
    """
    ordered = sorted(probes)
    before = p99_before(ordered, begin)
    limit = slow_seconds(before)
    after = [probe for probe in ordered if probe.due >= begin]
    over = max([end, *(probe.acknowledged for probe in after if probe.seconds > limit)])
    during = quantile([probe.seconds for probe in after if probe.due <= over], 0.99)
    slow = [probe.acknowledged for probe in after if probe.seconds > limit]
    return Latency(before, during, max(slow, default=begin) - begin)


def p99_before(probes: Iterable[Probe], moment: float) -> float:
    """The p99 of what was due and acknowledged before a moment, seconds; of at least one."""
    return quantile([probe.seconds for probe in probes if probe.acknowledged < moment], 0.99)


def slow_seconds(p99: float) -> float:
    """How long an answer takes at least to be slow."""
    return max(_SLOW_SECONDS, _SLOW_FACTOR * p99)


def inversions(journey: Sequence[str], events: Copies) -> int:
    """How many of a visitor's events stand behind a later one of theirs, or on another partition than the first one.

    One key, one partition: there the offsets are the order. A second copy of an event does not count.
    """
    places = [events[message_id][0] for message_id in journey if message_id in events]
    found = reached = 0
    for place in places:
        found += place.partition != places[0].partition or place.offset < reached
        reached = max(reached, place.offset)
    return found
