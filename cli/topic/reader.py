"""Records of one topic: bounded by the end that it had when the read began, all partitions joined by time."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from cli.topic.errors import TopicError
from cli.topic.plan import Plan
from cli.topic.records import Raw
from mesh.bus.kafka_client import KafkaSettings, consumer_config
from mesh.ids import new_id

_CHUNK: Final = 500
_POLL_SECONDS: Final = 0.2
_SILENCE_SECONDS: Final = 30.0
# A partition that is ahead of the others waits for them.
_MOST_AHEAD: Final = 2_000

Stop = Callable[[], bool]
"""Whether somebody wants it to end."""


def never() -> bool:
    """Nobody does."""
    return False


@dataclass(frozen=True, slots=True)
class Broker:
    """Where Kafka is, and the librdkafka properties for TLS and the like."""

    bootstrap: str
    properties_file: Path | None = None

    @property
    def settings(self) -> KafkaSettings:
        """For the clients; a command waits longer than a request at the edge may."""
        return KafkaSettings(self.bootstrap, delivery_seconds=60.0, properties_file=self.properties_file)


@contextmanager
def consumer(broker: Broker) -> Iterator[Any]:
    """A consumer that takes part in nobody's group.

    Raises:
        TopicError: The properties file cannot be used.
    """
    try:
        config = consumer_config(broker.settings)
        made = Consumer({**config, "group.id": f"clew-topic-{new_id()}", "log_level": 0})
    except (OSError, ValueError, KafkaException) as error:
        raise TopicError(f"the Kafka client cannot be made: {error}") from error
    try:
        yield made
    finally:
        made.close()


class Reader:
    """Reads the partitions of a plan.

    Args:
        client: A consumer.
        topic: Its full name.
        plan: Where to begin and end.
        stop: Asked now and then.
    """

    def __init__(self, client: Any, topic: str, plan: Plan, stop: Stop = never) -> None:
        self._client = client
        self._topic = topic
        self._plan = plan
        self._stop = stop
        self._open = plan.open
        self._queues: dict[int, deque[Raw]] = {partition: deque() for partition in self._open}
        self._paused: set[int] = set()

    def bounded(self) -> Iterator[Raw]:
        """Every record up to the ends, the oldest first; each partition keeps its order.

        Raises:
            KafkaException: The brokers do not answer.
        """
        self._assign({partition: self._plan.starts[partition] for partition in self._open})
        silence = 0.0
        while not self._stop():
            yield from self._ripe()
            if not self._open:
                return
            # Not what whoever takes the records needs for them: a pager may keep them for minutes.
            asked = time.monotonic()
            messages = self._client.consume(_CHUNK, _POLL_SECONDS)
            for message in messages:
                self._take(message)
            self._pause()
            silence = 0.0 if messages else silence + time.monotonic() - asked
            if silence > _SILENCE_SECONDS:
                raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN, "Kafka does not answer"))  # noqa: SLF001

    def following(self) -> Iterator[Raw]:
        """What comes after the ends, as it comes, until somebody wants it to end."""
        self._assign(self._plan.highs)
        self._client.resume([TopicPartition(self._topic, partition) for partition in self._plan.highs])
        while not self._stop():
            for message in self._client.consume(_CHUNK, _POLL_SECONDS):
                if message.error() is None:
                    yield Raw.of(message)
                elif not _is_end(message.error()):
                    _check(message.error())

    def _assign(self, places: Mapping[int, int]) -> None:
        self._client.assign([TopicPartition(self._topic, partition, at) for partition, at in places.items()])

    def _ripe(self) -> Iterator[Raw]:
        """The queued records that no record still to come can be older than, as far as partitions are in order."""
        while all(self._queues[partition] for partition in self._open):
            heads = [queue[0] for queue in self._queues.values() if queue]
            if not heads:
                return
            first = min(heads, key=lambda record: (record.time_ms, record.partition, record.offset))
            yield self._queues[first.partition].popleft()

    def _take(self, message: Any) -> None:
        error, partition = message.error(), message.partition()
        if error is not None:
            if _is_end(error):
                self._finish(partition)
            else:
                _check(error)
            return
        end = self._plan.ends[partition]
        if message.offset() < end and partition in self._open:
            self._queues[partition].append(Raw.of(message))
        if message.offset() >= end - 1:
            self._finish(partition)

    def _finish(self, partition: int) -> None:
        if partition in self._open:
            self._open.discard(partition)
            self._paused.discard(partition)
            self._client.pause([TopicPartition(self._topic, partition)])

    def _pause(self) -> None:
        ahead = {partition for partition in self._open if len(self._queues[partition]) > _MOST_AHEAD}
        if fresh := ahead - self._paused:
            self._client.pause([TopicPartition(self._topic, partition) for partition in fresh])
        if late := (self._paused - ahead) & self._open:
            self._client.resume([TopicPartition(self._topic, partition) for partition in late])
        self._paused = ahead


def _is_end(error: Any) -> bool:
    """Whether it says no more than that a partition has no more records now."""
    return bool(error.code() == KafkaError._PARTITION_EOF)  # noqa: SLF001 - a public code of librdkafka's own


def _check(error: Any) -> None:
    """Raise what ends a read; what librdkafka mends by itself is no news."""
    if error.code() == KafkaError._ALL_BROKERS_DOWN or not error.retriable():  # noqa: SLF001
        raise KafkaException(error)
