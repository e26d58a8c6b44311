"""What is on a topic, read as a data team reads it: Confluent's own deserializer and a registry's address, no more."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from clew.identity.v1.profile_changed_pb2 import ProfileChanged

EVENTS: Final = "clew.events.v1"
FAILED: Final = "clew.events.failed.v1"
PROFILES: Final = "clew.profiles.v1"
_TYPES: Final[dict[str, type[EnrichedEvent | FailedEvent | ProfileChanged]]] = {
    EVENTS: EnrichedEvent,
    FAILED: FailedEvent,
    PROFILES: ProfileChanged,
}
_SILENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """One record; `message` is an `EnrichedEvent`, a `FailedEvent` or a `ProfileChanged`, by the topic."""

    key: str
    headers: dict[str, str]
    message: Any
    raw: bytes
    partition: int
    offset: int


class TopicReader:
    """Reads a topic from its beginning and keeps what it has read; one for each running mesh and topic.

    Args:
        bootstrap: Kafka's address.
        registry: URL of the schema registry.
        topic: Its name.
    """

    def __init__(self, bootstrap: str, registry: str, topic: str) -> None:
        self._topic = topic
        self._bootstrap = bootstrap
        self._consumer = self._connect()
        self._registry = SchemaRegistryClient({"url": registry})
        self._deserialize = ProtobufDeserializer(_TYPES[topic], {"use.deprecated.format": False}, self._registry)
        self._assigned = False
        self._read: set[tuple[int, int, bytes]] = set()
        self.records: list[Received] = []

    def _connect(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "tests",
                "enable.auto.commit": False,
                # Brokers come and go in these tests.
                "log_level": 0,
                "reconnect.backoff.max.ms": 1_000,
                # A test waits for single records; the default lets the broker hold an answer back for half a second.
                "fetch.wait.max.ms": 20,
            }
        )

    def wait(self, ids: Collection[str], *, seconds: float = 20.0, quiet: float = 0.0) -> dict[str, list[Received]]:
        """The records of the messages, by id, once each has at least one.

        Looks on until nothing new has come for `quiet` seconds, so that one too many is seen.
        """
        wanted = set(ids)
        self.read(lambda: wanted <= {record.message.message_id for record in self.records}, seconds, quiet)
        found: dict[str, list[Received]] = {message_id: [] for message_id in wanted}
        for record in self.records:
            if record.message.message_id in wanted:
                found[record.message.message_id].append(record)
        missing = sorted(message_id for message_id, records in found.items() if not records)
        assert not missing, f"{len(missing)} of {len(wanted)} are not on {self._topic}: {missing[:5]}"
        return found

    def one(self, message_id: str, *, seconds: float = 20.0) -> Received:
        """The one record of a message."""
        (record,) = self.wait([message_id], seconds=seconds)[message_id]
        return record

    def now(self) -> list[Received]:
        """Everything that is on the topic by now: read until nothing has come for a moment."""
        self.read(lambda: True, 10.0, 0.5)
        return self.records

    def read(self, enough: Callable[[], bool], seconds: float, quiet: float) -> None:
        """Read on until it is enough and nothing new has come for a while, or the time is over."""
        deadline = time.monotonic() + seconds
        last = looked = time.monotonic()
        while time.monotonic() < deadline and not (enough() and time.monotonic() - last >= quiet):
            fresh = list(self._poll())
            if fresh:
                self.records += fresh
                last = looked = time.monotonic()
            elif not enough() and time.monotonic() - looked > _SILENCE_SECONDS:
                # A broker's restart may confuse a consumer: another one tells what is on the topic, from its beginning.
                self._consumer.close()
                self._consumer, self._assigned = self._connect(), False
                looked = time.monotonic()

    def close(self) -> None:
        """Leave the broker and the registry."""
        self._consumer.close()
        self._registry.close()

    def _poll(self) -> Iterator[Received]:
        if not self._assigned and not self._assign():
            time.sleep(0.1)
            return
        for message in self._consumer.consume(500, timeout=0.1):
            if message.error() is not None:
                continue
            received = self._received(message)
            # A record that is read anew is the same record; one that stands twice has two places.
            place = received.partition, received.offset, received.raw
            if place not in self._read:
                self._read.add(place)
                yield received

    def _assign(self) -> bool:
        """Take all partitions; a topic that nobody has written to has none yet."""
        partitions = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic].partitions
        self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in partitions])
        self._assigned = bool(partitions)
        return self._assigned

    def _received(self, message: Any) -> Received:
        raw: bytes = message.value()
        return Received(
            key=message.key().decode(),
            headers={name: value.decode() for name, value in message.headers()},
            message=self._deserialize(raw, SerializationContext(self._topic, MessageField.VALUE)),
            raw=raw,
            partition=message.partition(),
            offset=message.offset(),
        )
