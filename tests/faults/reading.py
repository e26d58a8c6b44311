"""What a consumer sees of the visitors' calls: the topics are read as Kafka may give them out, and by the rule.

Within a partition there is one order; which partition comes first is chance. So they are read in several orders, the
extremes among them: one partition after the other. For each, the documented rule (`tests/support/person_order.py`,
docs/TOPICS.md) says when an event is processed.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from mesh.bus.framing import parse
from tests.faults.topic import read_all
from tests.support.person_order import Event, PersonOrder
from tests.support.topics import EVENTS, PROFILES

_RANDOM_READINGS: Final = 6
_MOST_AT_ONCE: Final = 40


class Made(NamedTuple):
    """Which call of which visitor it is; the calls of one are numbered as they were made."""

    visitor: int
    number: int


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What was found.

    Attributes:
        inversions: Calls that were processed after a later call of the same visitor, by the rule, in the worst reading.
        without_rule: The same for a consumer that processes what it reads.
        split: Visitors whose calls stand under more than one key, because a login merged two profiles.
        stuck: Events that the rule never let pass.
        missing: Calls that are not on the topic.
        doubled: Calls that are there more than once; the first one counts.
    """

    visitors: int
    calls: int
    inversions: int
    without_rule: int
    split: int
    stuck: int
    missing: int
    doubled: int

    def as_dict(self) -> dict[str, int]:
        """For the results' file."""
        return asdict(self)


def read_topics(kafka: str, calls: dict[str, Made]) -> tuple[list[Event], list[ProfileChanged]]:
    """All events, with the call that each is where it is one, and all aliases, in the order of their partitions."""
    events = []
    for record in read_all(kafka, EVENTS):
        headers = dict(record.headers())
        made = calls.get(headers["clew-message-id"].decode())
        place = record.partition(), record.offset()
        events.append(Event(*place, record.key().decode(), int(headers["clew-profile-epoch"]), made))
    aliases = [ProfileChanged.FromString(parse(record.value())[1]) for record in read_all(kafka, PROFILES)]
    return events, aliases


def figures(events: Sequence[Event], aliases: Sequence[ProfileChanged], visitors: int, calls: int) -> OrderFigures:
    """Count, for so many visitors with so many calls each; every partition's events in their order."""
    keys: dict[int, set[str]] = defaultdict(set)
    copies: dict[Made, int] = defaultdict(int)
    for event in events:
        if event.value is not None:
            keys[event.value.visitor].add(event.profile_id)
            copies[event.value] += 1
    partitions: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        partitions[event.partition].append(event)
    by_rule = [_by_rule(reading, aliases) for reading in _readings(partitions)]
    return OrderFigures(
        visitors=visitors,
        calls=visitors * calls,
        inversions=max(inversions(order) for order, _ in by_rule),
        without_rule=max(inversions(list(reading)) for reading in _readings(partitions)),
        split=sum(len(found) > 1 for found in keys.values()),
        stuck=max(stuck for _, stuck in by_rule),
        missing=visitors * calls - len(copies),
        doubled=sum(copies.values()) - len(copies),
    )


def inversions(order: Sequence[Event]) -> int:
    """How many calls come after a later one of the same visitor; a second copy of a call does not count."""
    last: dict[int, int] = {}
    seen: set[Made] = set()
    found = 0
    for event in order:
        made: Made | None = event.value
        if made is None or made in seen:
            continue
        seen.add(made)
        before = last.get(made.visitor, -1)
        found += made.number < before
        last[made.visitor] = max(made.number, before)
    return found


def _by_rule(reading: Iterator[Event], aliases: Sequence[ProfileChanged]) -> tuple[list[Event], int]:
    """The events as they are processed, and how many never are."""
    unread = list(aliases)

    def read_aliases() -> list[ProfileChanged]:
        fresh = unread[:]
        unread.clear()
        return fresh

    order = PersonOrder(read_aliases)
    processed: list[Event] = []
    for event in reading:
        order.put(event)
        processed += order.take()
    return processed, order.held


def _readings(partitions: dict[int, list[Event]]) -> Iterator[Iterator[Event]]:
    """Some of the orders in which a consumer may be given the events."""
    numbers = sorted(partitions)
    for one_by_one in (numbers, numbers[::-1]):
        yield (event for number in one_by_one for event in partitions[number])
    for seed in range(_RANDOM_READINGS):
        yield _mixed(partitions, random.Random(seed).randrange)


def _mixed(partitions: dict[int, list[Event]], below: Callable[[int], int]) -> Iterator[Event]:
    rest = {number: iter(events) for number, events in partitions.items()}
    while rest:
        number = sorted(rest)[below(len(rest))]
        for _ in range(1 + below(_MOST_AT_ONCE)):
            event = next(rest[number], None)
            if event is None:
                del rest[number]
                break
            yield event
