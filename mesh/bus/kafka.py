"""The bus on Kafka: confluent-kafka's producer with a thread that collects the acknowledgements.

The thread is the only one that serves librdkafka's callbacks. It touches the event loop once for a burst of
acknowledgements, not once for each: waking a loop costs more than counting a thousand records.
"""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from mesh.bus.kafka_client import KafkaSettings, QuietLog, is_certain, is_retriable, producer_config
from mesh.bus.port import DeliveryFailure, Offsets, Partition, Record
from mesh.errors import BusUnavailable

_POLL_SECONDS: Final = 0.1
_CHECK_SECONDS: Final = 3.0
# What the thread may need beyond the flush: the purge's own callbacks and the wake-up.
_THREAD_MARGIN_SECONDS: Final = 2.0


class _Batch:
    """The records of one `produce` call, counted down.

    Written by two threads without a lock: only the poll thread writes `reported`, only the loop's thread writes
    `expected`, which can but shrink. Whichever of them sees both equal says so; settling twice does no harm.
    """

    __slots__ = ("expected", "failures", "future", "last", "on_complete", "reported", "size")

    def __init__(self, future: asyncio.Future[list[DeliveryFailure]], size: int, on_complete: Any) -> None:
        self.future = future
        self.size = size
        self.expected = size
        self.reported = 0
        self.failures: list[DeliveryFailure] = []
        # The last acknowledged record of each partition: their offsets only rise.
        self.last: dict[tuple[str | None, int | None], Message] = {}
        self.on_complete = on_complete

    def report(self, index: int, error: KafkaError | None, message: Message) -> None:
        """One record is acknowledged or failed; on the poll thread."""
        if error is None:
            self.last[message.topic(), message.partition()] = message
        else:
            self.failures.append(DeliveryFailure(index, error.str(), is_retriable(error), is_certain(error)))
        self.reported += 1
        if self.reported >= self.expected:
            self.on_complete(self)

    def abandon(self, detail: str) -> None:
        """Fail every record that has no failure yet, for want of knowing better."""
        known = {failure.index for failure in self.failures}
        self.failures.extend(DeliveryFailure(i, detail, retriable=True) for i in range(self.size) if i not in known)

    def refuse(self, failures: Sequence[DeliveryFailure]) -> bool:
        """Some were not taken: expect no report for them; whether nothing is left to wait for; on the loop's thread."""
        self.failures.extend(failures)
        self.expected = self.size - len(failures)
        return self.reported >= self.expected


class KafkaBus:
    """The bus on a Kafka cluster: idempotent, acknowledged by all in-sync replicas.

    It is made on a running event loop and belongs to it. Memory is bounded by the queue's limits. A broker that is away
    blocks nothing: batches fail after the delivery timeout (librdkafka looks once a second), what does not fit fails at
    once.

    Raises:
        KafkaException: librdkafka refuses a property.
        OSError, ValueError: The properties file cannot be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._config = producer_config(settings)
        self._log = structlog.get_logger("mesh.bus.kafka")
        self._loop = asyncio.get_running_loop()
        self._open: set[_Batch] = set()
        self._acknowledged: dict[Partition, int] = {}
        self._in_flight = 0
        self._complete: list[_Batch] = []
        self._unreachable = False
        self._closing: asyncio.Future[None] | None = None
        self._stop_thread = False
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._poll_until_stopped, name="kafka-poll", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """How many records are in batches whose futures have not resolved yet."""
        return self._in_flight

    @property
    def acknowledged(self) -> Offsets:
        """How far acknowledgements reach; see `mesh.bus.port.Bus.acknowledged`."""
        return self._acknowledged

    def produce(self, records: Sequence[Record]) -> asyncio.Future[list[DeliveryFailure]]:
        """Hand a batch to librdkafka; see `mesh.bus.port.Bus.produce`."""
        batch = _Batch(self._loop.create_future(), len(records), self._complete.append)
        self._open.add(batch)
        self._in_flight += batch.size
        refused = self._refuse_all(records) if self._closing else self._enqueue(batch, records)
        if (refused and batch.refuse(refused)) or not records:
            self._settle((batch,))
        return batch.future

    async def check(self) -> None:
        """Ask for the cluster's metadata; see `mesh.bus.port.Bus.check`."""
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=_CHECK_SECONDS)
        except KafkaException as error:
            raise BusUnavailable(f"Kafka does not answer: {error.args[0].str()}") from error

    async def close(self) -> None:
        """Flush for at most `close_seconds` and fail the rest; see `mesh.bus.port.Bus.close`."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._finish())
        await asyncio.shield(self._closing)

    def _enqueue(self, batch: _Batch, records: Sequence[Record]) -> list[DeliveryFailure]:
        """Queue the records in order; the failures of those that librdkafka did not take."""
        produce, report = self._producer.produce, batch.report
        refused: list[DeliveryFailure] = []
        for index, record in enumerate(records):
            try:
                produce(
                    record.topic,
                    record.value,
                    record.key,
                    on_delivery=partial(report, index),
                    headers=record.headers,  # type: ignore[arg-type] # lists are invariant; it is only read
                )
            except BufferError:
                # The rest would fit or not by chance; refused together, it keeps its order.
                rest = range(index, len(records))
                refused.extend(_refusal(position, "the queue is full") for position in rest)
                break
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                refused.append(DeliveryFailure(index, error.str(), is_retriable(error), certain=True))
        return refused

    def _refuse_all(self, records: Sequence[Record]) -> list[DeliveryFailure]:
        return [_refusal(index, "the bus is closed") for index in range(len(records))]

    def _settle(self, batches: Sequence[_Batch]) -> None:
        """Resolve the futures of complete batches; on the loop's thread, harmless when done twice."""
        for batch in batches:
            if batch not in self._open:
                continue
            self._open.remove(batch)
            self._in_flight -= batch.size
            self._note_acknowledged(batch)
            if not batch.future.done():
                batch.failures.sort(key=lambda failure: failure.index)
                batch.future.set_result(batch.failures)

    def _note_acknowledged(self, batch: _Batch) -> None:
        for (topic, partition), message in batch.last.items():
            offset = message.offset()
            if topic is None or partition is None or offset is None or offset < 0:
                continue
            reached = self._acknowledged
            reached[topic, partition] = max(reached.get((topic, partition), 0), offset + 1)

    async def _finish(self) -> None:
        self._stop_thread = True
        bound = self._settings.close_seconds + _POLL_SECONDS + _THREAD_MARGIN_SECONDS
        await asyncio.to_thread(self._thread.join, bound)
        for batch in list(self._open):
            batch.abandon("the bus was closed first")
            self._settle((batch,))

    # From here on: the poll thread.

    def _new_producer(self) -> Producer:
        return Producer(self._config, logger=QuietLog(), error_cb=self._on_error)

    def _poll_until_stopped(self) -> None:
        while not self._stop_thread:
            try:
                self._poll()
            except Exception:  # noqa: BLE001 - whatever a callback raised: without this thread no future resolves
                self._log.exception("kafka callback failed")
        self._producer.flush(self._settings.close_seconds)
        self._purge(self._producer)

    def _poll(self) -> None:
        try:
            self._producer.poll(_POLL_SECONDS)
        except KafkaException as exception:
            if not exception.args[0].fatal():
                raise
            self._replace_producer(exception.args[0])
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the complete batches to the loop, all in one call."""
        if not self._complete:
            return
        burst = self._complete[:]
        del self._complete[: len(burst)]
        if self._unreachable and not all(batch.failures for batch in burst):
            self._unreachable = False
            self._log.info("kafka acknowledges again")
        # A loop that was closed without closing the bus has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, burst)

    def _purge(self, producer: Producer) -> None:
        """Give up what a producer still holds, so that it fails now and does not arrive later."""
        producer.purge()
        producer.flush(_THREAD_MARGIN_SECONDS)
        self._hand_over()

    def _replace_producer(self, error: KafkaError) -> None:
        """Begin anew after a fatal error: a broker that lost the idempotent producer's state never takes it again."""
        self._log.error("kafka producer replaced after a fatal error", detail=error.str())
        spent, self._producer = self._producer, self._new_producer()
        self._purge(spent)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._unreachable:  # noqa: SLF001
            self._unreachable = True
            self._log.warning("kafka unreachable", bootstrap=self._settings.bootstrap)


def _refusal(index: int, detail: str) -> DeliveryFailure:
    """A record that never left this process; it may pass later."""
    return DeliveryFailure(index, detail, retriable=True, certain=True)
