"""The spool as the event loop sees it: requests in, durable and counted; requests out, oldest first.

Writes are committed in groups: what comes while one sync is under way shares the next. It is bounded in bytes and in
age: what has been acknowledged is never dropped, so a spool that is full or too old takes no more, and the edge answers
503 as it would without one. Events that wait are in flight for the ledger until the pipeline has counted them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, Self, TypeVar

import structlog

from gateway.batch import Submission
from gateway.spool.framing import frame
from gateway.spool.log import Position, SpoolLog
from gateway.spool.record import UNREADABLE, Head, Kept, blank, encode, keep, read_head, read_kept
from mesh.clock import Clock, SystemClock
from mesh.errors import Overloaded, StorageUnavailable

_SEGMENT_BYTES: Final = 8 << 20
_SEGMENTS: Final = 8
"""Space is given back by segments: a small spool has small ones."""
_SCAN_BYTES: Final = 8 << 20
_FULL_SECONDS: Final = 5
_NANOS: Final = 1_000_000_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpoolBounds:
    """How much it may hold on disk, in bytes, and how long its oldest record may wait before it takes no more."""

    most_bytes: int
    most_seconds: float = 86_400.0

    @property
    def segment_bytes(self) -> int:
        """When a segment is followed by another."""
        return max(1, min(_SEGMENT_BYTES, self.most_bytes // _SEGMENTS))


@dataclass(slots=True, eq=False)
class Waiting:
    """A record that was read to be released: what it holds, the position behind it, and how that went so far.

    `in_doubt`: the last try ended so, see `gateway.spool.deferral.in_doubt`.
    """

    kept: Kept
    end: Position
    produced: bool
    tries: int = 0
    done: bool = False
    in_doubt: bool = False


@dataclass(slots=True)
class _Write:
    """A record on its way to disk, and who waits for that."""

    head: Head
    data: bytes
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Spool:
    """Requests that wait for better times, in the order in which they came.

    Args:
        log: The files.
        bounds: How much they may hold.
        clock: What ages are judged by.
    """

    def __init__(self, log: SpoolLog, bounds: SpoolBounds, clock: Clock | None = None) -> None:
        self._log = log
        self._bounds = bounds
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, "spool")
        self._serials = count(self._clock.now_ns())
        self._queue: list[_Write] = []
        self._queued_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._last: asyncio.Future[None] | None = None
        self._cursor = log.head
        self._oldest_ns = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._failing = False
        self.events = 0
        """How many events wait, those on their way to disk among them."""
        self.produced: set[int] = set()
        """Serials of records that turned out to be at Kafka after they were kept."""
        self.on_set_aside: Callable[[str, int], None] = lambda _source, _count: None
        """Called with the source and the number of events that were set aside."""

    @classmethod
    async def open(cls, directory: Path, bounds: SpoolBounds, clock: Clock | None = None) -> Self:
        """Open the spool and count what an earlier run left in it.

        Raises:
            StorageUnavailable: It cannot be used.
        """
        log = await asyncio.to_thread(SpoolLog.open, directory, bounds.segment_bytes)
        spool = cls(log, bounds, clock)
        for head in await spool._run(lambda: list(_heads(log))):
            spool._enter(head)
        return spool

    @property
    def size(self) -> int:
        """Bytes on disk and on their way there."""
        return self._log.size + self._queued_bytes

    @property
    def age_seconds(self) -> float:
        """How long the oldest event has waited; 0 when none does."""
        return max(0.0, (self._clock.now_ns() - self._oldest_ns) / _NANOS) if self.events else 0.0

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return self.size >= self._bounds.most_bytes or self.age_seconds > self._bounds.most_seconds

    def waiting(self, workspace: str = "", source: str = "") -> int:
        """How many events wait, of one workspace and source or of all."""
        # A copy: measurements are taken on a thread of their own.
        return sum(
            number
            for (its_workspace, its_source), number in list(self._counts.items())
            if workspace in {"", its_workspace} and source in {"", its_source}
        )

    def by_source(self) -> dict[tuple[str, str], int]:
        """How many events wait, by workspace and source."""
        return dict(self._counts)

    def put(self, submission: Submission) -> tuple[int, asyncio.Future[None]]:
        """Keep a request behind all others: its serial, and the future that resolves once it is on disk.

        The future fails with `StorageUnavailable` when that failed; nothing of the request is kept then. It is not to
        be cancelled: shield it from those who may go away.

        Raises:
            Overloaded: The spool is full, or what waits in it is too old.
        """
        serial = next(self._serials)
        kept = keep(submission, serial)
        write = _Write(kept, frame(encode(kept)))
        if self.full or self.size + len(write.data) > self._bounds.most_bytes:
            raise Overloaded(
                "the spool holds as much as it may; send the same events again", retry_after_seconds=_FULL_SECONDS
            )
        self._queue.append(write)
        self._last = write.done
        self._queued_bytes += len(write.data)
        self._enter(kept)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())
        return serial, write.done

    async def settled(self) -> None:
        """Return when all that was put before is on disk, or has failed."""
        if self._last is not None:
            await asyncio.wait({self._last})

    async def read(self, most_events: int, most_bytes: int) -> list[Waiting]:
        """The next records that were not read yet, in order; one that alone exceeds the bounds is alone.

        What cannot be read is set aside, and stands in its place without events, done.

        Raises:
            StorageUnavailable: The files cannot be read.
        """
        found: list[Waiting] = []
        events = size = 0
        for payload, end in await self._do(lambda: self._log.read(self._cursor, most_bytes)):
            try:
                kept = read_kept(payload)
            except UNREADABLE as error:
                if found:
                    break
                found.append(await self._read_past(payload, end, error))
                self._cursor = end
                continue
            if found and (events + kept.count > most_events or size + len(payload) > most_bytes):
                break
            self._cursor = end
            found.append(Waiting(kept, end, kept.produced))
            events, size = events + kept.count, size + len(payload)
        return found

    def was_produced(self, waiting: Waiting) -> bool:
        """Whether records of it were handed to Kafka, before it was kept or after."""
        return waiting.produced or waiting.kept.serial in self.produced

    def done(self, waiting: Waiting) -> None:
        """A record is released: its events wait no longer. `mark` makes that durable."""
        waiting.done = True
        self.produced.discard(waiting.kept.serial)
        self._leave(waiting.kept)

    async def mark(self, waiting: Waiting) -> None:
        """All records up to this one are done, durably.

        Raises:
            StorageUnavailable: That could not be written. Releasing them again does no harm.
        """
        self._oldest_ns = max(self._oldest_ns, waiting.kept.received_ns)
        await self._do(lambda: self._log.mark(waiting.end))

    async def set_aside(self, waiting: Waiting, problem: str) -> None:
        """Give up on a record that no waiting mends; it is kept in a file beside the spool.

        Raises:
            StorageUnavailable: It could not be written; nothing has changed.
        """
        await self._refuse(encode(waiting.kept), problem, **_names(waiting.kept))
        self.done(waiting)
        self.on_set_aside(waiting.kept.source, waiting.kept.count)

    async def close(self) -> None:
        """Write what is on its way, and let go of the files."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self._run(self._log.close)
        self._thread.shutdown()

    # From here on: the one thread that touches the files, and the counts.

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await self._run(work)
        except OSError as error:
            raise StorageUnavailable("the spool cannot be read or written") from error

    async def _flush(self) -> None:
        while self._queue:
            group, self._queue = self._queue, []
            try:
                await self._run(partial(self._log.append, [write.data for write in group]))
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must learn of it
                self._tell(error)
                self._fail(group)
            else:
                self._failing = False
                for write in group:
                    write.done.set_result(None)
            self._queued_bytes -= sum(len(write.data) for write in group)
        self._flushing = None

    def _fail(self, group: list[_Write]) -> None:
        for write in group:
            self._leave(write.head)
            write.done.set_exception(StorageUnavailable("the spool cannot be written; send the same events again"))
            # Whoever waited may have gone: then nobody asks.
            write.done.exception()

    def _tell(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            structlog.get_logger("gateway.spool").error("the spool cannot be written", problem=repr(error))

    async def _read_past(self, payload: bytes, end: Position, error: Exception) -> Waiting:
        """Set a record aside that cannot be read; what its head made wait waits no longer."""
        head = _read_head(payload)
        await self._refuse(payload, f"it cannot be read: {error}", **(_names(head) if head else {}))
        if head is not None:
            self._leave(head)
            self.on_set_aside(head.source, head.count)
        return Waiting(blank(head), end, produced=False, done=True)

    async def _refuse(self, payload: bytes, problem: str, **names: object) -> None:
        await self._do(lambda: self._log.refuse(payload))
        structlog.get_logger("gateway.spool").error(
            "a spooled request cannot be published; it is set aside in refused.log", problem=problem, **names
        )

    def _enter(self, head: Head) -> None:
        if not self.events:
            self._oldest_ns = head.received_ns
        self.events += head.count
        self._counts[head.workspace, head.source] += head.count

    def _leave(self, head: Head) -> None:
        self.events -= head.count
        self._counts[head.workspace, head.source] -= head.count
        if not self._counts[head.workspace, head.source]:
            del self._counts[head.workspace, head.source]


def _names(head: Head) -> dict[str, object]:
    return {"workspace": head.workspace, "source": head.source, "events": head.count}


def _heads(log: SpoolLog) -> Iterator[Head]:
    """What is known of each record that is not drained."""
    position = log.head
    while stored := log.read(position, _SCAN_BYTES):
        for payload, position in stored:  # noqa: B007 - the last position is where to go on
            # What has no head is not counted, and set aside when its turn comes.
            if (head := _read_head(payload)) is not None:
                yield head


def _read_head(payload: bytes) -> Head | None:
    """What is known of a record; None: nothing."""
    try:
        return read_head(payload)
    except UNREADABLE:
        return None
