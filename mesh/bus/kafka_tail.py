"""The tail of Kafka's topics: a consumer that is assigned its partitions and belongs to no group."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mesh.bus.kafka_client import KafkaSettings, QuietLog, consumer_config
from mesh.bus.kafka_in_sync import InSync
from mesh.bus.port import Offsets, Partition
from mesh.bus.tail import Ends, StoredRecord
from mesh.errors import BusUnavailable

_ANSWER_SECONDS: Final = 3.0
# A read that brings nothing for so long has lost its brokers.
_SILENCE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.2
_CHUNK: Final = 1000
_NEAR: Final = 200


class KafkaTail:
    """Reads topics of a Kafka cluster; a consumer lives for one call only. Its blocking calls run in threads.

    Raises:
        OSError, ValueError: The properties file cannot be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._config = consumer_config(settings)
        self._in_sync = InSync(settings)

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Where the topics end; see `mesh.bus.tail.EndReader.ends`."""
        async with self._consumer() as consumer:
            try:
                return await asyncio.to_thread(self._ends, consumer, topics)
            except KafkaException as exception:
                raise _unavailable(exception) from exception

    async def read(self, lows: Offsets, ends: Offsets) -> AsyncIterator[list[StoredRecord]]:
        """Yield the records; see `mesh.bus.tail.Tail.read`."""
        wanted = {partition: end for partition, end in ends.items() if lows.get(partition, 0) < end}
        if not wanted:
            return
        async with self._consumer() as consumer:
            try:
                consumer.assign([TopicPartition(*partition, lows.get(partition, 0)) for partition in wanted])
                heard = time.monotonic()
                while wanted:
                    messages = await asyncio.to_thread(consumer.consume, _CHUNK, _POLL_SECONDS)
                    records = _take(messages, wanted)
                    if records:
                        yield records
                    if messages:
                        heard = time.monotonic()
                    elif time.monotonic() - heard > _SILENCE_SECONDS:
                        raise BusUnavailable("Kafka does not answer: a read of the topics' ends came to a stop")
            except KafkaException as exception:
                raise _unavailable(exception) from exception

    async def pick(self, places: Mapping[Partition, Collection[int]]) -> list[StoredRecord]:
        """Read single records; see `mesh.bus.tail.Tail.pick`. What lies close together is read in one go."""
        async with self._consumer() as consumer:
            try:
                return await asyncio.to_thread(self._pick, consumer, places)
            except KafkaException as exception:
                raise _unavailable(exception) from exception

    async def close(self) -> None:
        """Nothing is held between calls; see `mesh.bus.tail.Tail.close`."""

    def _ends(self, consumer: Consumer, topics: Sequence[str]) -> Ends:
        metadata = consumer.list_topics(timeout=_ANSWER_SECONDS)
        offsets: dict[Partition, int] = {}
        for topic in topics:
            known = metadata.topics.get(topic)
            if known is None or known.error is not None:
                if known is None or known.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise KafkaException(known.error)
            self._in_sync.check(topic, known.partitions.values())
            for number in known.partitions:
                partition = TopicPartition(topic, number)
                _, end = consumer.get_watermark_offsets(partition, timeout=_ANSWER_SECONDS)
                offsets[topic, number] = end
        return Ends(str(metadata.cluster_id or ""), offsets)

    def _pick(self, consumer: Consumer, places: Mapping[Partition, Collection[int]]) -> list[StoredRecord]:
        ends = self._ends(consumer, sorted({topic for topic, _ in places})).offsets
        found: list[StoredRecord] = []
        for partition, offsets in places.items():
            wanted = sorted(offset for offset in set(offsets) if 0 <= offset < ends.get(partition, 0))
            for run in _runs(wanted):
                found += _read_run(consumer, partition, run)
        return found

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Consumer]:
        consumer = Consumer(self._config, logger=QuietLog())
        try:
            yield consumer
        finally:
            await asyncio.to_thread(consumer.close)


def _runs(offsets: Sequence[int]) -> list[list[int]]:
    """Ascending offsets in groups: what lies between two of one group is read along, for a seek costs more."""
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and offset - runs[-1][-1] <= _NEAR:
            runs[-1].append(offset)
        else:
            runs.append([offset])
    return runs


def _read_run(consumer: Consumer, partition: Partition, run: Sequence[int]) -> list[StoredRecord]:
    wanted, last = set(run), {partition: run[-1] + 1}
    consumer.assign([TopicPartition(*partition, run[0])])
    found: list[StoredRecord] = []
    heard = time.monotonic()
    while last:
        messages = consumer.consume(max(1, run[-1] - run[0] + 1), _POLL_SECONDS)
        found += [record for record in _take(messages, last) if record.offset in wanted]
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > _SILENCE_SECONDS:
            raise BusUnavailable("Kafka does not answer: a read of single records came to a stop")
    return found


def _take(messages: list[Message], wanted: dict[Partition, int]) -> list[StoredRecord]:
    """The records that are wanted; a partition that was read to its wanted end is taken out of `wanted`."""
    records: list[StoredRecord] = []
    for message in messages:
        error: Any = message.error()
        partition = (str(message.topic()), int(message.partition() or 0))
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public code of librdkafka's own
                # After a change of leader an end may lie below the one that is wanted until the followers have told
                # the new leader what they hold: those records are stored, and are still to come.
                if int(message.offset() or 0) >= wanted.get(partition, 0):
                    wanted.pop(partition, None)
            elif not error.retriable():
                raise KafkaException(error)
            continue
        offset = int(message.offset() or 0)
        end = wanted.get(partition)
        if end is None:
            continue
        if offset < end:
            headers = cast("list[tuple[str, bytes]] | None", message.headers())
            records.append(StoredRecord(*partition, offset, message.value() or b"", headers or []))
        if offset >= end - 1:
            del wanted[partition]
    return records


def _unavailable(exception: KafkaException) -> BusUnavailable:
    return BusUnavailable(f"Kafka's topics cannot be read: {exception.args[0].str()}")
