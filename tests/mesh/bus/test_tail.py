"""Reading topics back by offset, on each broker: memory, the embedded broker's mock, and real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message

from mesh.bus import kafka_tail
from mesh.bus.kafka_client import KafkaSettings, consumer_config
from mesh.bus.kafka_tail import KafkaTail
from mesh.bus.memory import MemoryBus
from mesh.bus.port import Bus, Offsets, Record
from mesh.bus.tail import MemoryTail, StoredRecord, Tail
from mesh.errors import BusUnavailable
from tests.mesh.bus.brokers import Broker, KafkaBroker, kafka_broker, memory_broker, mock_broker
from tests.mesh.bus.test_contract import _named, _own, _until_stored, records_of


@pytest.fixture(params=["memory", "mock", "kafka"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """Each broker in turn."""
    async with AsyncExitStack() as stack:
        if request.param == "kafka":
            kafka = request.getfixturevalue("real_kafka")
            context = kafka_broker(*_named(kafka) if isinstance(kafka, str) else _own(kafka))
        else:
            context = {"memory": memory_broker, "mock": mock_broker}[request.param]()
        yield await stack.enter_async_context(context)


@pytest.fixture
async def bus(broker: Broker) -> Bus:
    """Publishes to the broker."""
    return broker.open_bus()


@pytest.fixture
def tail(broker: Broker, bus: Bus) -> Tail:
    """Reads from it."""
    if isinstance(broker, KafkaBroker):
        return KafkaTail(KafkaSettings(broker._bootstrap))
    assert isinstance(bus, MemoryBus)
    return MemoryTail(bus)


async def read_all(tail: Tail, lows: Offsets, ends: Offsets) -> list[StoredRecord]:
    """Every record between the offsets."""
    return [record async for records in tail.read(lows, ends) for record in records]


def values(records: list[StoredRecord]) -> list[bytes]:
    """The values in the order of the topic's partitions."""
    return [record.value for record in sorted(records, key=lambda record: (record.partition, record.offset))]


async def test_what_was_acknowledged_lies_below_the_ends(bus: Bus, tail: Tail, topic: str) -> None:
    """And exactly so where nobody else writes: the bus and the tail speak of the same offsets."""
    await bus.produce(records_of(topic, 5, key=b"a") + records_of(topic, 5, key=b"b"))
    ends = await tail.ends([topic])
    written = {partition: end for partition, end in ends.offsets.items() if end}
    assert written == {partition: end for partition, end in bus.acknowledged.items() if partition[0] == topic}
    assert sum(written.values()) == 10


async def test_records_are_read_from_an_offset_to_an_end_as_they_were_given(bus: Bus, tail: Tail, topic: str) -> None:
    """Headers and values, and neither what lies below nor what comes after."""
    headers = [("a", b"1"), ("b", b""), ("a", b"2")]
    await bus.produce(records_of(topic, 3))
    lows = dict(bus.acknowledged)
    await bus.produce([Record(topic, b"k", b"\x00wanted", headers)])
    ends = (await tail.ends([topic])).offsets
    await bus.produce(records_of(topic, 3))
    (record,) = await read_all(tail, lows, ends)
    assert (record.topic, record.value, record.headers) == (topic, b"\x00wanted", headers)
    assert record.offset == lows[topic, record.partition]


async def test_a_long_topic_is_read_whole_and_in_order(bus: Bus, tail: Tail, topic: str) -> None:
    """In lists of bounded length: memory does not grow with the topic."""
    await bus.produce(records_of(topic, 2_500))
    ends = (await tail.ends([topic])).offsets
    lists = [records async for records in tail.read({}, ends)]
    assert max(map(len, lists)) <= 1_000
    assert values([record for records in lists for record in records]) == [b"value-%d" % n for n in range(2_500)]


async def test_a_partition_that_ends_below_the_wanted_end_is_waited_for(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of leader: what is missing is read when it shows, and else nothing is said about it."""
    monkeypatch.setattr(kafka_tail, "_SILENCE_SECONDS", 2.0)
    async with mock_broker() as broker:
        assert isinstance(broker, KafkaBroker)
        bus, tail = broker.open_bus(), KafkaTail(KafkaSettings(broker._bootstrap))
        await bus.produce(records_of(topic, 5, key=b"k"))
        (partition,) = (place for place, end in (await tail.ends([topic])).offsets.items() if end)
        reading = asyncio.create_task(read_all(tail, {}, {partition: 7}))
        # The client library tells of the end half a second after the last record.
        await asyncio.sleep(1.2)
        await bus.produce(records_of(topic, 2, key=b"k"))
        assert [record.offset for record in await reading] == list(range(7))
        with pytest.raises(BusUnavailable):
            await read_all(tail, {}, {partition: 9})


def test_only_an_end_at_or_beyond_the_wanted_one_ends_a_partition() -> None:
    """There it does, without a record just below: retention, or a transaction's marker, may have left a gap."""
    for offset, left in ((94, {("t", 0): 95}), (95, {}), (96, {})):
        wanted = {("t", 0): 95}
        end = Message(topic="t", partition=0, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF))
        assert kafka_tail._take([end], wanted) == []
        assert wanted == left


async def test_nothing_to_read_is_read_at_once(bus: Bus, tail: Tail, topic: str) -> None:
    """A topic without records between the offsets yields no list."""
    await bus.produce(records_of(topic, 2))
    ends = (await tail.ends([topic])).offsets
    assert [records async for records in tail.read(ends, ends)] == []
    assert [records async for records in tail.read({}, {})] == []


async def test_a_topic_that_nobody_wrote_to_has_no_partitions(tail: Tail, topic: str) -> None:
    """It is not made by being looked at."""
    assert (await tail.ends([topic])).offsets == {}
    assert (await tail.ends([topic])).offsets == {}


async def test_several_topics_are_read_together(bus: Bus, tail: Tail, topic: str) -> None:
    """Each record says which one it is from."""
    other = f"{topic}.other"
    await bus.produce([Record(topic, b"k", b"1"), Record(other, b"k", b"2")])
    ends = await tail.ends([topic, other])
    assert ends.cluster == (await tail.ends([topic])).cluster
    found = {(record.topic, record.value) for record in await read_all(tail, {}, ends.offsets)}
    assert found == {(topic, b"1"), (other, b"2")}


async def test_single_records_are_picked_by_their_offsets(bus: Bus, tail: Tail, topic: str) -> None:
    """Close together or far apart; what is not there, or was never asked for, is left out."""
    await bus.produce(records_of(topic, 1_000, key=b"k"))
    ((partition, end),) = ((place, end) for place, end in (await tail.ends([topic])).offsets.items() if end)
    wanted = [0, 1, 7, 500, end - 1, end, end + 50]
    picked = await tail.pick({partition: wanted, (topic, 77): [0], (f"{topic}.absent", 0): [0]})
    found = sorted((record.offset, record.value) for record in picked)
    assert found == [(offset, b"value-%d" % offset) for offset in (0, 1, 7, 500, 999)]
    assert await tail.pick({}) == []


async def test_brokers_that_are_away_are_unavailable(broker: Broker, bus: Bus, tail: Tail, topic: str) -> None:
    """Nothing is said about the topics: neither that they are empty nor that they end."""
    await bus.produce(records_of(topic, 2))
    ends = (await tail.ends([topic])).offsets
    await broker.stop()
    try:
        with pytest.raises(BusUnavailable):
            await tail.ends([topic])
        with pytest.raises(BusUnavailable):
            await read_all(tail, {}, ends)
    finally:
        await broker.start()


async def test_a_failure_says_whether_the_record_may_be_stored_all_the_same(broker: Broker, topic: str) -> None:
    """A full queue and a refused record are certain; what was given up while it waited is not."""
    small, hasty = broker.open_bus(queue_records=3), broker.open_bus(delivery_seconds=3.0)
    too_many = await small.produce(records_of(topic, 20))
    assert {failure.certain for failure in too_many} == {True}
    large = records_of(topic, 1)
    large[0].value = b"x" * 2_000_000
    assert [failure.certain for failure in await small.produce(large)] == [True]
    await _until_stored(hasty, records_of(topic, 1))
    await broker.stop()
    try:
        (waited,) = await hasty.produce(records_of(topic, 1))
    finally:
        await broker.start()
    assert not waited.certain


def test_a_reader_connects_as_the_properties_say_and_keeps_its_own_promises(tmp_path: Path) -> None:
    """TLS and SASL come from the file; a producer's properties and another group do not."""
    file = tmp_path / "kafka.properties"
    lines = ("security.protocol=SSL", "ssl.ca.location=probe", "linger.ms=5", "group.id=theirs")
    file.write_text("\n".join((*lines, "isolation.level=read_committed")))
    config = consumer_config(KafkaSettings("h:1", properties_file=file))
    assert (config["security.protocol"], config["ssl.ca.location"]) == ("SSL", "probe")
    assert "linger.ms" not in config
    assert (config["group.id"], config["isolation.level"]) == ("clew-tail", "read_uncommitted")
