"""A person's order over a login: the gateway's aliases and the documented rule, on random histories.

What is published here is what the gateway publishes (`gateway.aliases`), on a topic of several partitions; what is read
is read in any order of the partitions that Kafka may choose, while more is written.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from clew.identity.v1.profile_changed_pb2 import Barrier, ProfileChanged
from gateway.aliases import Aliases
from gateway.encode import EVENTS_TOPIC, PROFILES_TOPIC
from mesh.bus.framing import parse
from mesh.bus.partitioner import partition_of
from mesh.bus.port import DeliveryFailure, Offsets, Record
from mesh.bus.tail import Ends
from tests.support.person_order import Event, PersonOrder

PARTITIONS = 3
GATEWAYS = 2


class Call(NamedTuple):
    """One of a person's calls: which one it is, and the keys under which it comes after the earlier ones."""

    person: int
    number: int
    key: str
    after: frozenset[str]


class Topics:
    """The events topic with several partitions, and the aliases; everything is acknowledged at once."""

    in_flight = 0
    acknowledged: Offsets = {}  # noqa: RUF012 - the port's attribute; nobody asks here

    def __init__(self) -> None:
        self.events: list[list[Event]] = [[] for _ in range(PARTITIONS)]
        self.aliases: list[ProfileChanged] = []

    def produce(self, records: Sequence[Record]) -> "asyncio.Future[list[DeliveryFailure]]":
        """Store aliases."""
        for record in records:
            assert record.topic == PROFILES_TOPIC
            alias = ProfileChanged.FromString(parse(record.value)[1])
            assert record.key == alias.profile_id.encode()
            self.aliases.append(alias)
        stored: asyncio.Future[list[DeliveryFailure]] = asyncio.get_running_loop().create_future()
        stored.set_result([])
        return stored

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Where the events end."""
        assert topics == (EVENTS_TOPIC,)
        return Ends("here", {(EVENTS_TOPIC, number): len(events) for number, events in enumerate(self.events)})

    def publish(self, profile_id: str, epoch: int, value: "Call") -> None:
        """Store an event."""
        partition = partition_of(profile_id.encode(), PARTITIONS)
        events = self.events[partition]
        events.append(Event(partition, len(events), profile_id, epoch, value))

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class World:
    """Persons with several devices, whose calls reach any gateway, one after the other."""

    topics: Topics = field(default_factory=Topics)
    gateways: list[Aliases] = field(default_factory=list)
    merged: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        for _ in range(GATEWAYS):
            self.gateways.append(self.new_gateway())

    def new_gateway(self) -> Aliases:
        """One that remembers nothing, and not much later."""
        return Aliases(self.topics, self.topics, schema_id=1, capacity=2)

    async def call(self, gateway: int, person: int, device: int) -> None:
        """The next call of a person, anonymous on a device that has not logged in."""
        visitor, user, merged = f"device-{person}-{device}", f"user-{person}", self.merged[person]
        number = self.counts[person] = self.counts[person] + 1
        if visitor not in merged:
            # Nobody knows yet that two devices are one person's: only each one's own calls have an order.
            self.topics.publish(visitor, 0, Call(person, number, visitor, frozenset((visitor,))))
            return
        aliases = self.gateways[gateway]
        if news := aliases.news({user: merged}):
            await aliases.publish("shop", news)
        self.topics.publish(user, len(merged), Call(person, number, user, frozenset((user, *merged))))

    async def log_in(self, gateway: int, person: int, device: int) -> None:
        """Merge the device's profile into the user's, and say so by an event."""
        visitor = f"device-{person}-{device}"
        if visitor not in self.merged[person]:
            self.merged[person].append(visitor)
        await self.call(gateway, person, device)


class Reader:
    """A consumer by the rule, that notes what it processes."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._aliases_read = 0
        self._read = [0] * PARTITIONS
        self._order = PersonOrder(self._new_aliases)
        self.processed: list[Call] = []

    def _new_aliases(self) -> Iterator[ProfileChanged]:
        fresh = self._topics.aliases[self._aliases_read :]
        self._aliases_read = len(self._topics.aliases)
        return iter(fresh)

    def read(self, partition: int) -> bool:
        """Read the next event of a partition; whether there was one."""
        events = self._topics.events[partition][self._read[partition] :]
        if events:
            self._read[partition] += 1
            self._order.put(events[0])
            self.processed += [event.value for event in self._order.take()]
        return bool(events)

    @property
    def held(self) -> int:
        """How many events wait."""
        return self._order.held


def inversions(processed: Sequence[Call]) -> int:
    """How many calls were processed before one that they come after."""
    return sum(
        any(late.number < call.number and late.key in call.after for late in processed[position:])
        for position, call in enumerate(processed)
    )


PLACES = st.tuples(st.integers(0, GATEWAYS - 1), st.integers(0, 2), st.integers(0, 2))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), PLACES),
        st.tuples(st.just("log in"), PLACES),
        st.tuples(st.just("restart"), PLACES),
        st.tuples(st.just("read"), PLACES),
    ),
    max_size=80,
)


async def _live(world: World, reader: Reader, steps: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    for kind, (gateway, person, device) in steps:
        match kind:
            case "call":
                await world.call(gateway, person, device)
            case "log in":
                await world.log_in(gateway, person, device)
            case "restart":
                world.gateways[gateway] = world.new_gateway()
            case _:
                reader.read(person % PARTITIONS)


@given(STEPS, st.permutations(range(PARTITIONS)))
def test_by_the_rule_no_history_inverts_and_none_stands_still(
    steps: list[tuple[str, tuple[int, int, int]]], rest: list[int]
) -> None:
    """Whichever partition is read first, while gateways come and go: all is processed, each person's in its order."""
    world = World()
    readers = [Reader(world.topics), Reader(world.topics)]
    asyncio.run(_live(world, readers[0], steps))
    for reader in readers:
        for partition in rest:
            while reader.read(partition):
                pass
        assert reader.held == 0
        assert inversions(reader.processed) == 0
        assert len(reader.processed) == sum(world.counts.values())


async def _one_login(person: int) -> World:
    world = World()
    for _ in range(3):
        await world.call(0, person, 0)
    await world.log_in(1, person, 0)
    await world.call(0, person, 0)
    return world


def test_without_the_rule_a_login_inverts() -> None:
    """What the test above asks for is not there by itself: the user's partition, read first, comes too early."""
    places = [
        [partition_of(b"%s-%d%s" % key, PARTITIONS) for key in ((b"device", person, b"-0"), (b"user", person, b""))]
        for person in range(9)
    ]
    person = next(number for number, (visitor, user) in enumerate(places) if visitor != user)
    visitor, user = places[person]
    world = asyncio.run(_one_login(person))
    naive = [event.value for partition in (user, visitor) for event in world.topics.events[partition]]
    assert inversions(naive) == 2
    reader = Reader(world.topics)
    reader.read(user)
    assert (reader.processed, reader.held) == ([], 1)
    for _ in range(3):
        reader.read(visitor)
    reader.read(user)
    assert [call.number for call in reader.processed] == [1, 2, 3, 4, 5]


def test_an_alias_that_compaction_has_removed_holds_nothing_up() -> None:
    """Where none of the event's epoch is left, what its barriers spoke of is gone as well."""
    later = ProfileChanged(profile_id="u", epoch=1, barriers=[Barrier(profile_id="a", partition=0, offset=9)])
    order = PersonOrder(lambda: [later])
    order.put(Event(1, 0, "u", 2))
    assert [event.profile_id for event in order.take()] == ["u"]


def test_only_aliases_up_to_the_events_epoch_count() -> None:
    """One of a later merge speaks of records that this event does not come after."""
    aliases = [
        ProfileChanged(profile_id="u", epoch=epoch, barriers=[Barrier(partition=0, offset=10 * epoch)])
        for epoch in (1, 1, 2)
    ]
    order = PersonOrder(lambda: aliases, {0: 9})
    order.put(Event(1, 0, "u", 1))
    assert not list(order.take())
    order.skip(0, 10)
    assert len(list(order.take())) == 1
    order.put(Event(1, 1, "u", 2))
    assert not list(order.take())


def test_what_is_no_event_is_skipped() -> None:
    """A partition that ends, or goes on higher, has nothing below: nobody waits for what is not there."""
    order = PersonOrder(lambda: [ProfileChanged(profile_id="u", epoch=1, barriers=[Barrier(partition=0, offset=5)])])
    order.put(Event(1, 0, "u", 1))
    assert not list(order.take())
    order.put(Event(0, 5, "v", 0))
    assert {event.profile_id for event in order.take()} == {"u", "v"}
