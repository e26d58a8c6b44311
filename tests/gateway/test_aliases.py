"""A merge is on Kafka before the first event under the new key; batches without one do not notice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.identity.v1.identity_service_pb2 import IdentityQuery, ResolvedIdentity
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from gateway.aliases import Aliases
from gateway.encode import EVENTS_TOPIC, PROFILES_TOPIC, TOPICS
from mesh.bus.memory import MemoryBus
from mesh.bus.port import Record
from mesh.bus.tail import Ends, MemoryTail
from mesh.errors import BusUnavailable
from tests.gateway.scripted import Stage, plain_identity, running_stage
from tests.gateway.test_pipeline import ACCEPTED, FILTERED, fates, request, start, track, verdicts
from tests.mesh.rpc import eventually

FRAME_BYTES = 6


class CountedEnds:
    """Where the topics of a memory bus end; it counts its calls, can be down, and can stop the bus after one."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._tail = MemoryTail(bus)
        self.stops = False
        self.asked = 0
        self.down = False

    async def ends(self, topics: Sequence[str]) -> Ends:
        """See `EndReader`."""
        self.asked += 1
        if self.down:
            raise BusUnavailable("no answer")
        found = await self._tail.ends(topics)
        if self.stops:
            self._bus.stop()
        return found


class Graph:
    """Visitors who log in join the profile of their user, who was known before: what identity says of them."""

    def __init__(self) -> None:
        self.merged: dict[str, list[str]] = {}

    def resolve(self, query: IdentityQuery) -> ResolvedIdentity:
        """The profile of one item, with all that was merged into it."""
        user = query.user_id or next(
            (name for name, ids in self.merged.items() if f"p-{query.anonymous_id}" in ids), ""
        )
        if not user:
            return plain_identity(query)
        merged = self.merged.setdefault(user, [])
        if query.user_id and query.anonymous_id and f"p-{query.anonymous_id}" not in merged:
            merged.append(f"p-{query.anonymous_id}")
        return ResolvedIdentity(profile_id=f"p-{user}", merged_profile_ids=merged)


@pytest.fixture
def bus() -> MemoryBus:
    """One for all gateways of a test."""
    return MemoryBus()


@pytest.fixture
def ends(bus: MemoryBus) -> CountedEnds:
    """Where its topics end."""
    return CountedEnds(bus)


@pytest.fixture
async def stage(bus: MemoryBus, ends: CountedEnds) -> AsyncIterator[Stage]:
    """A gateway over a graph that merges."""
    async with running_stage(bus, ends=ends) as running:
        running.identity.resolve = Graph().resolve
        yield running


def aliases(bus: MemoryBus) -> list[ProfileChanged]:
    """The aliases that are on their topic, oldest first."""
    return [ProfileChanged.FromString(record.value[FRAME_BYTES:]) for record in bus.read(PROFILES_TOPIC)]


def barriers(bus: MemoryBus) -> list[dict[str, int]]:
    """The offsets of each alias by merged profile."""
    return [{barrier.profile_id: barrier.offset for barrier in alias.barriers} for alias in aliases(bus)]


def events(bus: MemoryBus) -> list[tuple[str, str, int]]:
    """Message id, key and epoch of each event, oldest first."""
    found = []
    for record in bus.read(EVENTS_TOPIC):
        event = EnrichedEvent.FromString(record.value[FRAME_BYTES:])
        assert dict(record.headers)["clew-profile-epoch"] == b"%d" % event.profile_epoch
        assert record.key == event.profile_id.encode()
        found.append((event.message_id, event.profile_id, event.profile_epoch))
    return found


async def test_an_alias_says_who_was_merged_and_how_far_their_records_reach(stage: Stage, bus: MemoryBus) -> None:
    """The barrier lies above all that was acknowledged under the old key, and the event carries the epoch."""
    await stage.pipeline.submit(request(track("m-1"), track("m-2")))
    await stage.pipeline.submit(request(track("m-3", userId="u")))
    (record,) = bus.read(PROFILES_TOPIC)
    (alias,) = aliases(bus)
    assert (record.key, alias.workspace, alias.profile_id, alias.epoch) == (b"p-u", "shop", "p-u", 1)
    assert list(alias.merged_profile_ids) == ["p-a"]
    assert [(each.profile_id, each.partition, each.offset) for each in alias.barriers] == [("p-a", 0, 2)]
    assert events(bus) == [("m-1", "p-a", 0), ("m-2", "p-a", 0), ("m-3", "p-u", 1)]
    headers = dict(record.headers)
    assert headers["clew-schema"].startswith(b"clew.identity.v1.ProfileChanged;")
    assert (headers["clew-profile-epoch"], headers["ce_id"]) == (b"1", b"p-u-1")
    assert headers["clew-gateway"] == stage.claims.store.owner.encode()


async def test_no_event_leaves_before_its_alias_is_acknowledged(
    stage: Stage, bus: MemoryBus, ends: CountedEnds
) -> None:
    """A broker that does not answer holds the event back, and then the alias stands first."""
    await stage.pipeline.submit(request(track("m-1")))
    produced: list[str] = []
    real = bus.produce

    def watch(records: Sequence[Record]) -> "asyncio.Future[list[object]]":
        produced.extend(record.topic for record in records)
        return real(records)  # type: ignore[return-value] # passed on

    bus.produce = watch  # type: ignore[method-assign, assignment]
    ends.stops = True
    (task,) = start(stage, request(track("m-2", userId="u")))
    await eventually(lambda: produced)
    assert produced == [PROFILES_TOPIC]
    bus.start()
    assert await fates([task]) == [None]
    assert produced == [PROFILES_TOPIC, EVENTS_TOPIC]


async def test_events_under_way_to_kafka_lie_below_the_barrier(stage: Stage, bus: MemoryBus) -> None:
    """The batch before has been handed over and not acknowledged: the end is read when it is."""
    bus.stop()
    first, second = request(track("m-1"), track("m-2")), request(track("m-3", userId="u"))
    tasks = start(stage, first)
    await eventually(lambda: bus.in_flight == 2)
    tasks += start(stage, second)
    await eventually(lambda: len(stage.enrich.script.requests) == 2)
    bus.start()
    assert await fates(tasks) == [None, None]
    assert barriers(bus) == [{"p-a": 2}]


async def test_what_a_batch_itself_merges_goes_under_the_new_key(stage: Stage, bus: MemoryBus) -> None:
    """No barrier could be above a visitor's events of the same batch, so they are the user's already."""
    await stage.pipeline.submit(request(track("m-1")))
    await stage.pipeline.submit(request(track("m-2"), track("m-3", anonymous_id="b"), track("m-4", userId="u")))
    assert events(bus) == [("m-1", "p-a", 0), ("m-2", "p-u", 1), ("m-3", "p-b", 0), ("m-4", "p-u", 1)]
    assert barriers(bus) == [{"p-a": 1}]


async def test_an_alias_is_published_once(stage: Stage, bus: MemoryBus, ends: CountedEnds) -> None:
    """A profile that was said to be merged costs a look-up: no end is read, nothing is published."""
    for number in range(4):
        await stage.pipeline.submit(request(track(f"m-{number}", userId="u"), track(f"n-{number}")))
    assert [alias.epoch for alias in aliases(bus)] == [1]
    assert ends.asked == 1
    assert {epoch for _, _, epoch in events(bus)} == {1}


async def test_a_profile_without_merges_needs_no_alias(stage: Stage, bus: MemoryBus, ends: CountedEnds) -> None:
    """What comes from visitors and users that never met is published as ever."""
    await stage.pipeline.submit(request(track("m-1"), track("m-2", anonymous_id="", userId="v")))
    assert (aliases(bus), ends.asked) == ([], 0)


async def test_each_merge_is_an_epoch_with_a_barrier_of_its_own(stage: Stage, bus: MemoryBus) -> None:
    """The second device is named beside the first one, and only its records are new."""
    for device in ("a", "b"):
        await stage.pipeline.submit(request(track(f"{device}-1", anonymous_id=device)))
        await stage.pipeline.submit(request(track(f"{device}-2", anonymous_id=device, userId="u")))
    assert [(alias.epoch, list(alias.merged_profile_ids)) for alias in aliases(bus)] == [
        (1, ["p-a"]),
        (2, ["p-a", "p-b"]),
    ]
    assert barriers(bus) == [{"p-a": 1}, {"p-b": 3}]


async def test_a_failed_alias_fails_closed(stage: Stage, bus: MemoryBus) -> None:
    """Nothing stands under a key whose alias does not; the next try publishes both."""
    await stage.pipeline.submit(request(track("m-1")))
    bus.fail_when(lambda record: "no" if record.topic == PROFILES_TOPIC else None)
    with pytest.raises(BusUnavailable):
        await stage.pipeline.submit(request(track("m-2", userId="u"), track("m-3", anonymous_id="other")))
    assert [message_id for message_id, _, _ in events(bus)] == ["m-1"]
    bus.fail_when(lambda _: None)
    again = request(track("m-2", userId="u"), track("m-3", anonymous_id="other"))
    await stage.pipeline.submit(again)
    assert verdicts(again) == [ACCEPTED, ACCEPTED]
    assert barriers(bus) == [{"p-a": 1}]


async def test_an_alias_that_may_be_stored_is_published_again(stage: Stage, bus: MemoryBus) -> None:
    """Nobody said that it is there, so it is said once more."""
    bus.lose_answers()
    with pytest.raises(BusUnavailable):
        await stage.pipeline.submit(request(track("m-2", userId="u")))
    bus.lose_answers(lose=False)
    await stage.pipeline.submit(request(track("m-2", userId="u")))
    assert [alias.epoch for alias in aliases(bus)] == [1, 1]
    assert [message_id for message_id, _, _ in events(bus)] == ["m-2"]


async def test_ends_that_cannot_be_read_fail_closed(stage: Stage, bus: MemoryBus, ends: CountedEnds) -> None:
    """Without a barrier an alias would say too little."""
    ends.down = True
    with pytest.raises(BusUnavailable):
        await stage.pipeline.submit(request(track("m-1", userId="u")))
    assert (bus.read(EVENTS_TOPIC), bus.read(PROFILES_TOPIC)) == ([], [])


async def test_of_whom_nothing_is_kept_nothing_is_said(stage: Stage, bus: MemoryBus) -> None:
    """A person who refused is not told about on another topic either."""
    stage.consent.refused = {"p-u"}
    carried = request(track("m-1", userId="u"))
    await stage.pipeline.submit(carried)
    assert verdicts(carried) == [FILTERED]
    assert aliases(bus) == []


async def test_what_is_forgotten_is_published_again_with_a_later_barrier(bus: MemoryBus) -> None:
    """Memory is bounded; the profile that was seen longest ago goes first."""
    published = Aliases(bus, MemoryTail(bus), schema_id=3, capacity=2)
    await bus.produce([Record(EVENTS_TOPIC, b"p-a", b"")])
    for user in ("u", "v"):
        await published.publish("shop", {user: ["p-a"]})
    assert published.news({"u": ["p-a"]}) == {}
    await published.publish("shop", {"w": ["p-a"]})
    await bus.produce([Record(EVENTS_TOPIC, b"p-x", b"")])
    assert published.news({name: ["p-a"] for name in "uvw"}) == {"v": ["p-a"]}
    await published.publish("shop", {"v": ["p-a"]})
    assert [(alias.profile_id, alias.barriers[0].offset) for alias in aliases(bus)] == [
        *(("u", 1), ("v", 1), ("w", 1)),
        ("v", 2),
    ]


async def test_another_gateways_merge_is_said_by_whoever_publishes_after_it(bus: MemoryBus) -> None:
    """Each gateway has its own word that the alias is there before its event, whoever merged the profiles."""
    graph = Graph()
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(running_stage(bus)) for _ in range(2)]
        for stage in (first, second):
            stage.identity.resolve = graph.resolve
        await first.pipeline.submit(request(track("m-1")))
        await first.pipeline.submit(request(track("m-2", userId="u")))
        await second.pipeline.submit(request(track("m-3")))
        await first.pipeline.submit(request(track("m-4")))
    assert barriers(bus) == [{"p-a": 1}, {"p-a": 2}]
    assert events(bus)[1:] == [(f"m-{number}", "p-u", 1) for number in (2, 3, 4)]


async def test_a_topic_that_is_not_there_holds_nothing_to_wait_for(bus: MemoryBus) -> None:
    """The very first event of a cluster may be a login."""
    await Aliases(bus, MemoryTail(bus), schema_id=3).publish("shop", {"u": ["p-a"]})
    assert [(alias.epoch, len(alias.barriers)) for alias in aliases(bus)] == [(1, 0)]


async def test_aliases_are_not_looked_for_on_a_start(stage: Stage) -> None:
    """What a gateway keeps of offsets is of the topics that claims are about: another one would look lost to it."""
    await stage.pipeline.submit(request(track("m-1", userId="u")))
    _, offsets = stage.claims.position()
    assert {topic for topic, _ in offsets} <= set(TOPICS)
    assert offsets
