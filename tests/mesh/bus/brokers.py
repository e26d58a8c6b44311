"""The brokers that the bus contract runs against, behind one small interface."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings
from mesh.bus.memory import MemoryBus
from mesh.bus.mock_cluster import MockCluster
from mesh.bus.port import Bus, Record


class Broker(Protocol):
    """A broker, a bus that publishes to it and a way to read what arrived."""

    def open_bus(self, *, queue_records: int = 10_000, delivery_seconds: float = 8.0) -> Bus:
        """Make a bus with these limits; the broker closes it at the end of the test."""
        ...

    async def read(self, topic: str, count: int) -> list[Record]:
        """The first records of a topic, in the order of their partitions, or fewer if no more come in time."""
        ...

    async def stop(self) -> None:
        """Make the broker unreachable; what it stores stays."""
        ...

    async def start(self) -> None:
        """Make it reachable again at the same address."""
        ...


class MemoryBroker:
    """The in-memory bus, which is its own broker."""

    def __init__(self) -> None:
        self.buses: list[MemoryBus] = []

    def open_bus(self, *, queue_records: int = 10_000, delivery_seconds: float = 8.0) -> Bus:
        """See `Broker`."""
        bus = MemoryBus(capacity=queue_records, delivery_timeout_seconds=delivery_seconds)
        self.buses.append(bus)
        return bus

    async def read(self, topic: str, count: int) -> list[Record]:
        """See `Broker`."""
        return [record for bus in self.buses for record in bus.read(topic)][:count]

    async def stop(self) -> None:
        """See `Broker`."""
        for bus in self.buses:
            bus.stop()

    async def start(self) -> None:
        """See `Broker`."""
        for bus in self.buses:
            bus.start()


class KafkaBroker:
    """A Kafka cluster behind the Kafka bus, read with a stock consumer."""

    def __init__(self, bootstrap: str, stop: Callable[[], None], start: Callable[[], None]) -> None:
        self.buses: list[KafkaBus] = []
        self._bootstrap = bootstrap
        self._stop, self._start = stop, start

    def open_bus(self, *, queue_records: int = 10_000, delivery_seconds: float = 8.0) -> Bus:
        """See `Broker`."""
        settings = KafkaSettings(
            self._bootstrap, delivery_seconds=delivery_seconds, queue_records=queue_records, close_seconds=1.0
        )
        bus = KafkaBus(settings)
        self.buses.append(bus)
        return bus

    async def read(self, topic: str, count: int) -> list[Record]:
        """See `Broker`."""
        return await asyncio.to_thread(read_topic, self._bootstrap, topic, count)

    async def stop(self) -> None:
        """See `Broker`."""
        await asyncio.to_thread(self._stop)

    async def start(self) -> None:
        """See `Broker`."""
        await asyncio.to_thread(self._start)


def read_topic(bootstrap: str, topic: str, count: int, *, timeout_seconds: float = 20.0) -> list[Record]:
    """Read the first records of a topic with a stock consumer; fewer when no more come in time."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    records: list[Record] = []
    deadline = time.monotonic() + timeout_seconds
    try:
        partitions = consumer.list_topics(topic, timeout=timeout_seconds).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        while len(records) < count and time.monotonic() < deadline:
            records += [_record(message) for message in consumer.consume(count - len(records), timeout=0.2)]
    finally:
        consumer.close()
    return records


def _record(message: Message) -> Record:
    assert message.error() is None, message.error()
    headers = cast("list[tuple[str, bytes]] | None", message.headers())
    return Record(str(message.topic()), message.key() or b"", message.value() or b"", headers or [])


@asynccontextmanager
async def memory_broker() -> AsyncIterator[Broker]:
    """The in-memory bus."""
    broker = MemoryBroker()
    yield broker
    for bus in broker.buses:
        await bus.close()


@asynccontextmanager
async def kafka_broker(bootstrap: str, stop: Callable[[], None], start: Callable[[], None]) -> AsyncIterator[Broker]:
    """A running Kafka cluster."""
    broker = KafkaBroker(bootstrap, stop, start)
    yield broker
    for bus in broker.buses:
        await bus.close()


@asynccontextmanager
async def mock_broker() -> AsyncIterator[Broker]:
    """Librdkafka's mock, which is what the embedded broker runs."""
    with MockCluster() as cluster:
        async with kafka_broker(cluster.bootstrap, cluster.stop_brokers, cluster.start_brokers) as broker:
            yield broker


BrokerFactory = Callable[[], AbstractAsyncContextManager[Broker]]
