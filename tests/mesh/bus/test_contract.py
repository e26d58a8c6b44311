"""What every bus promises, checked on each adapter: memory, Kafka on the embedded broker's mock, and real Kafka.

The real one is started for the suite where Java and Maven are; CLEW_TEST_KAFKA=HOST:PORT names another one, without the
outage cases, since it is not ours to stop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from mesh.bus.port import Bus, DeliveryFailure, Record
from mesh.errors import BusUnavailable
from tests.mesh.bus.brokers import Broker, kafka_broker, memory_broker, mock_broker
from tools.kafka.cluster import LocalKafka

OUTAGE_SECONDS = 2.0
# Bootstrap address, how to stop the cluster, how to start it again.
Target = tuple[str, Callable[[], None], Callable[[], None]]


@pytest.fixture(params=["memory", "mock", "kafka"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """Each broker in turn."""
    match request.param:
        case "memory":
            context = memory_broker()
        case "mock":
            context = mock_broker()
        case _:
            kafka = request.getfixturevalue("real_kafka")
            context = kafka_broker(*_named(kafka) if isinstance(kafka, str) else _own(kafka))
    async with context as opened:
        yield opened


def _named(bootstrap: str) -> Target:
    def refuse() -> None:
        pytest.skip("a named cluster is not ours to stop")

    return bootstrap, refuse, refuse


def _own(kafka: LocalKafka) -> Target:
    return kafka.bootstrap, kafka.kill, kafka.start


def records_of(topic: str, count: int, *, key: bytes = b"k", first: int = 0) -> list[Record]:
    """Numbered records with one key."""
    return [Record(topic, key, b"value-%d" % number) for number in range(first, first + count)]


def indices(failures: Sequence[DeliveryFailure]) -> list[int]:
    """Which records failed."""
    return [failure.index for failure in failures]


async def test_acknowledged_records_can_be_read_as_they_were_given(broker: Broker, topic: str) -> None:
    """Key, value and headers arrive byte for byte; headers keep their order, and a name may occur twice."""
    headers = [("traceparent", b"00-1"), ("a", b"\x00\xff"), ("traceparent", b"00-2"), ("empty", b"")]
    given = Record(topic, b"\x00key", b"\x00\x00\x00\x00\x01\x00body", headers)

    failures = await broker.open_bus().produce([given])

    assert failures == []
    assert await broker.read(topic, 1) == [given]


async def test_records_of_one_key_keep_their_order_within_and_across_batches(broker: Broker, topic: str) -> None:
    """Batches that are handed over without waiting for one another arrive in the order of the calls, key by key."""
    bus = broker.open_bus()
    keys = [b"anna", b"ben", b"cleo"]
    batches = [[Record(topic, key, b"%d" % n) for key in keys] for n in range(60)]

    results = await asyncio.gather(*(bus.produce(batch) for batch in batches))

    assert results == [[]] * 60
    stored = await broker.read(topic, 180)
    for key in keys:
        assert [record.value for record in stored if record.key == key] == [b"%d" % n for n in range(60)]


async def test_an_empty_batch_succeeds(broker: Broker) -> None:
    """Nothing to store is stored at once."""
    assert await broker.open_bus().produce([]) == []


async def test_many_batches_resolve_each_on_its_own(broker: Broker, topic: str) -> None:
    """A thousand small batches in flight together all resolve, and none of their records is lost or doubled."""
    bus = broker.open_bus()

    futures = [bus.produce([Record(topic, b"%d" % n, b"%d" % n)]) for n in range(1000)]

    assert bus.in_flight == 1000
    assert await asyncio.gather(*futures) == [[]] * 1000
    assert bus.in_flight == 0
    assert {record.value for record in await broker.read(topic, 1000)} == {b"%d" % n for n in range(1000)}


async def test_produce_does_not_resolve_before_it_returns(broker: Broker, topic: str) -> None:
    """Success is the broker's acknowledgement, not the hand-over."""
    future = broker.open_bus().produce(records_of(topic, 3))

    assert not future.done()
    assert await future == []


async def test_a_record_that_is_too_large_fails_alone_and_for_good(broker: Broker, topic: str) -> None:
    """The failure names its position and says that it is useless to try again; its neighbours are stored."""
    batch = records_of(topic, 3)
    batch[1].value = b"x" * 2_000_000

    failures = await broker.open_bus().produce(batch)

    assert [(failure.index, failure.retriable) for failure in failures] == [(1, False)]
    assert [record.value for record in await broker.read(topic, 2)] == [b"value-0", b"value-2"]


async def test_what_does_not_fit_into_the_queue_fails_as_the_end_of_its_batch(broker: Broker, topic: str) -> None:
    """The beginning is stored, the rest fails at once and may be sent again: order is kept, memory is bounded."""
    bus = broker.open_bus(queue_records=10)

    failures = await bus.produce(records_of(topic, 25))

    taken = 25 - len(failures)
    assert taken >= 10
    assert indices(failures) == list(range(taken, 25))
    assert all(failure.retriable for failure in failures)
    assert [record.value for record in await broker.read(topic, taken)] == [b"value-%d" % n for n in range(taken)]


async def test_a_full_queue_takes_records_again_once_it_drained(broker: Broker, topic: str) -> None:
    """A refusal is about the moment, not about the bus."""
    bus = broker.open_bus(queue_records=10)
    await bus.produce(records_of(topic, 25))

    assert await bus.produce(records_of(topic, 5)) == []


async def test_a_caller_that_stops_waiting_recalls_nothing(broker: Broker, topic: str) -> None:
    """A cancelled future leaves its records and other batches alone, and the count of what is in flight comes back."""
    bus = broker.open_bus()
    given_up = bus.produce(records_of(topic, 2))
    other = bus.produce(records_of(topic, 2, first=2))
    given_up.cancel()

    assert await other == []
    assert len(await broker.read(topic, 4)) == 4
    assert bus.in_flight == 0


async def test_close_waits_for_what_is_in_flight(broker: Broker, topic: str) -> None:
    """What was taken before the close is stored when the broker is there."""
    bus = broker.open_bus()
    future = bus.produce(records_of(topic, 100))

    await bus.close()

    assert future.done()
    assert future.result() == []
    assert len(await broker.read(topic, 100)) == 100


async def test_a_closed_bus_refuses_and_may_be_closed_again(broker: Broker, topic: str) -> None:
    """After the close each record fails at once, retriable: another process may take it."""
    bus = broker.open_bus()
    await bus.close()
    await bus.close()

    failures = await bus.produce(records_of(topic, 2))

    assert [(failure.index, failure.retriable) for failure in failures] == [(0, True), (1, True)]


async def test_check_succeeds_while_the_broker_answers(broker: Broker) -> None:
    """A reachable broker passes."""
    await broker.open_bus().check()


async def test_an_outage_fails_batches_in_time_and_ends_by_itself(broker: Broker, topic: str) -> None:
    """Batches fail retriably within the delivery timeout or soon after; once the broker is back, they are stored."""
    bus = broker.open_bus(delivery_seconds=OUTAGE_SECONDS)
    assert await bus.produce(records_of(topic, 2)) == []

    await broker.stop()
    try:
        async with asyncio.timeout(OUTAGE_SECONDS + 3):
            failures = await bus.produce(records_of(topic, 3, first=2))
        with pytest.raises(BusUnavailable):
            await bus.check()
    finally:
        await broker.start()

    assert indices(failures) == [0, 1, 2]
    assert all(failure.retriable for failure in failures)
    assert await _until_stored(bus, records_of(topic, 1, first=9))
    stored = {record.value for record in await broker.read(topic, 3)}
    assert stored >= {b"value-0", b"value-1", b"value-9"}


async def test_an_outage_shorter_than_the_timeout_costs_nothing(broker: Broker, topic: str) -> None:
    """What waits when the broker returns is stored once and in order."""
    bus = broker.open_bus(delivery_seconds=60.0)
    assert await bus.produce(records_of(topic, 1)) == []

    await broker.stop()
    waiting = [bus.produce(records_of(topic, 5, first=1 + 5 * n)) for n in range(4)]
    await asyncio.sleep(0.5)
    assert not any(future.done() for future in waiting)
    await broker.start()

    assert await asyncio.gather(*waiting) == [[]] * 4
    assert [record.value for record in await broker.read(topic, 21)] == [b"value-%d" % n for n in range(21)]


async def test_close_during_an_outage_is_bounded_and_fails_what_waits(broker: Broker, topic: str) -> None:
    """No future is lost: what could not be delivered fails, retriably, as soon as the bus gives up."""
    bus = broker.open_bus()
    assert await bus.produce(records_of(topic, 1)) == []
    await broker.stop()
    try:
        waiting = bus.produce(records_of(topic, 3, first=1))
        async with asyncio.timeout(6):
            await bus.close()
    finally:
        await broker.start()

    assert waiting.done()
    assert [(failure.index, failure.retriable) for failure in waiting.result()] == [(0, True), (1, True), (2, True)]


async def _until_stored(bus: Bus, batch: list[Record]) -> bool:
    """Try a batch again until it is stored; real brokers need a moment after their start."""
    for _ in range(30):
        if not await bus.produce(batch):
            return True
        await asyncio.sleep(0.2)
    return False
