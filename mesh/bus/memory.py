"""A bus in this process's memory, for tests: what was published can be read, and failures are made to order."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mesh.bus.port import DeliveryFailure, Offsets, Partition, Record
from mesh.errors import BusUnavailable


@dataclass(slots=True)
class _Batch:
    """What was taken of one call: records by their position, and the failures of the others."""

    future: asyncio.Future[list[DeliveryFailure]]
    taken: dict[int, Record] = field(default_factory=dict)
    failures: list[DeliveryFailure] = field(default_factory=list)
    expiry: asyncio.TimerHandle | None = None


class MemoryBus:
    """A bus that keeps every record, in order, by topic.

    It acknowledges on a later turn of the event loop, never within `produce`, as a broker would.

    Args:
        capacity: Records that may be in flight; what is beyond fails as a full queue does.
        max_record_bytes: A larger value fails for good, as the broker's limit does.
        delivery_timeout_seconds: How long a batch waits for a stopped broker before it fails.
    """

    def __init__(
        self, *, capacity: int = 100_000, max_record_bytes: int = 1_000_000, delivery_timeout_seconds: float = 8.0
    ) -> None:
        self._capacity = capacity
        self._max_record_bytes = max_record_bytes
        self._delivery_timeout_seconds = delivery_timeout_seconds
        self._topics: dict[str, list[Record]] = {}
        self._waiting: list[_Batch] = []
        self._acknowledged: dict[Partition, int] = {}
        self._in_flight = 0
        self._stopped = False
        self._closed = False
        self._refuse: Callable[[Record], str | None] = lambda _record: None
        self._refuse_retriable = True
        self._lose_answers = False

    @property
    def in_flight(self) -> int:
        """How many records are in batches whose futures have not resolved yet."""
        return self._in_flight

    @property
    def acknowledged(self) -> Offsets:
        """See `mesh.bus.port.Bus.acknowledged`; every topic has one partition, 0."""
        return self._acknowledged

    @property
    def stopped(self) -> bool:
        """Whether it acts as if the broker were gone."""
        return self._stopped

    def topics(self) -> list[str]:
        """The topics that have been written to."""
        return list(self._topics)

    def read(self, topic: str) -> list[Record]:
        """Every record of a topic, oldest first."""
        return list(self._topics.get(topic, ()))

    def stop(self) -> None:
        """Act as if the broker were gone: batches wait, and fail when their time is over."""
        self._stopped = True

    def start(self) -> None:
        """Bring the broker back; what still waits is stored, in order."""
        self._stopped = False
        waiting, self._waiting = self._waiting, []
        for batch in waiting:
            self._store(batch)

    def fail_when(self, refuse: Callable[[Record], str | None], *, retriable: bool = True) -> None:
        """Fail every record from now on for which `refuse` gives a detail; `lambda _: None` ends it."""
        self._refuse, self._refuse_retriable = refuse, retriable

    def lose_answers(self, lose: bool = True) -> None:
        """Store every record from now on and say that nobody answered: what a broken connection looks like."""
        self._lose_answers = lose

    def produce(self, records: Sequence[Record]) -> asyncio.Future[list[DeliveryFailure]]:
        """Store a batch; see `mesh.bus.port.Bus.produce`."""
        batch = self._admit(records)
        self._in_flight += len(batch.taken)
        if self._stopped and batch.taken:
            loop = asyncio.get_running_loop()
            batch.expiry = loop.call_later(self._delivery_timeout_seconds, self._give_up, batch, "no answer in time")
            self._waiting.append(batch)
        else:
            self._store(batch)
        return batch.future

    async def check(self) -> None:
        """Succeed unless the bus is stopped or closed; see `mesh.bus.port.Bus.check`."""
        if self._stopped or self._closed:
            raise BusUnavailable("the in-memory broker is stopped")

    async def close(self) -> None:
        """Fail what still waits and take no more; see `mesh.bus.port.Bus.close`."""
        self._closed = True
        for batch in list(self._waiting):
            self._give_up(batch, "the bus was closed first")
        await asyncio.sleep(0)

    def _admit(self, records: Sequence[Record]) -> _Batch:
        batch = _Batch(asyncio.get_running_loop().create_future())
        room = 0 if self._closed else self._capacity - self._in_flight
        full = "the bus is closed" if self._closed else "the queue is full"
        for index, record in enumerate(records):
            if len(batch.taken) >= room:
                rest = range(index, len(records))
                batch.failures.extend(
                    DeliveryFailure(position, full, retriable=True, certain=True) for position in rest
                )
                break
            failure = self._failure_of(index, record)
            if failure is None:
                batch.taken[index] = record
            else:
                batch.failures.append(failure)
        return batch

    def _failure_of(self, index: int, record: Record) -> DeliveryFailure | None:
        if len(record.value) > self._max_record_bytes:
            return DeliveryFailure(index, "the record is too large", retriable=False, certain=True)
        detail = self._refuse(record)
        return None if detail is None else DeliveryFailure(index, detail, self._refuse_retriable, certain=True)

    def _store(self, batch: _Batch) -> None:
        for record in batch.taken.values():
            self._topics.setdefault(record.topic, []).append(record)
        if self._lose_answers:
            batch.failures.extend(DeliveryFailure(index, "no answer in time", retriable=True) for index in batch.taken)
        else:
            for record in batch.taken.values():
                self._acknowledged[record.topic, 0] = len(self._topics[record.topic])
        asyncio.get_running_loop().call_soon(self._resolve, batch)

    def _give_up(self, batch: _Batch, detail: str) -> None:
        self._waiting.remove(batch)
        batch.failures.extend(DeliveryFailure(index, detail, retriable=True) for index in batch.taken)
        self._resolve(batch)

    def _resolve(self, batch: _Batch) -> None:
        self._in_flight -= len(batch.taken)
        if batch.expiry is not None:
            batch.expiry.cancel()
        if not batch.future.done():
            batch.failures.sort(key=lambda failure: failure.index)
            batch.future.set_result(batch.failures)
