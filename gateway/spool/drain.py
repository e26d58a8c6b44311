"""Releases what waits in the spool, in order, through the same pipeline as everything else.

Identity, consent and enrichment are asked at release. Claims make every repetition harmless: a batch is released again
after a failure or a crash, and what of it was published is not published twice. Before a batch is released, the outcome
of everything that this gateway has handed to Kafka must be known, or a later event could be published while it is still
open whether the earlier one was.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from gateway.carrier import Carrier
from gateway.spool.deferral import TRANSIENT, Deferral, in_doubt
from gateway.spool.record import release
from gateway.spool.spool import Spool, Waiting
from gateway.stats import Stats
from gateway.tap import Tap
from mesh.bus.port import Bus
from mesh.errors import BusUnavailable, ClewError, Internal

MAX_EVENTS: Final = 1_000
"""Most events of a batch: what travels through the pipeline together."""
MAX_BYTES: Final = 4 << 20
_LEAST_PAUSE_SECONDS: Final = 0.1
_MOST_PAUSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05
_MOST_TRIES: Final = 3
_CLOSE_SECONDS: Final = 5.0
_log = structlog.get_logger("gateway.spool")


class Drain:
    """Works while there is something in the spool.

    Args:
        spool: What is released.
        deferral: Told how that goes.
        pipeline: Where it is released to.
        bus: Asked whether Kafka answers before anything is tried.
        settled: Whether it is known what became of everything that this gateway has claimed.
        request_seconds: How long the pipeline may take over a batch.
        stats: Counts verdicts.
        tap: Shows them.
    """

    def __init__(
        self,
        spool: Spool,
        deferral: Deferral,
        pipeline: Carrier,
        bus: Bus,
        settled: Callable[[], bool],
        *,
        request_seconds: float,
        stats: Stats,
        tap: Tap | None = None,
    ) -> None:
        self._spool = spool
        self._deferral = deferral
        self._pipeline = pipeline
        self._bus = bus
        self._settled = settled
        self._request_seconds = request_seconds
        self._stats = stats
        self._tap = tap or Tap()
        self._batch: deque[Waiting] = deque()
        """Read and not done, in order: what is left of a batch that failed."""
        # An earlier run may have been in the middle of a batch: what of it is on the topic may be this spool's own.
        self._doubtful = min(spool.events, MAX_EVENTS)
        self._alone = False
        self._task: asyncio.Task[None] | None = None
        spool.on_set_aside = stats.set_aside
        for (_, source), count in spool.by_source().items():
            stats.recovered(source, count)

    def start(self) -> None:
        """Begin to work, until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop; what waits is released by the next run."""
        if self._task is not None:
            if not self._spool.events:
                # Only the last mark may be missing.
                await asyncio.wait({self._task}, timeout=_LOOK_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        pause = _LEAST_PAUSE_SECONDS
        while True:
            await self._deferral.closed.wait()
            try:
                await self._ready()
                await self._drain()
                pause = _LEAST_PAUSE_SECONDS
            except ClewError as error:
                self._deferral.shut(str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MOST_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - nothing may end this task: events would wait for ever
                # Without its traceback, whose frames hold events.
                _log.error("the spool could not be drained; trying on", problem=repr(error))
                self._deferral.shut("a fault of the gateway's")
                await asyncio.sleep(_MOST_PAUSE_SECONDS)

    async def _ready(self) -> None:
        # An outage lasts, and the hot path need not tell anybody: so this looks.
        while not self._settled():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        await self._bus.check()

    async def _drain(self) -> None:
        """Release everything, at first a single request to see whether that works, and open the way at the end."""
        await self._next()
        await self._finish(self._start(only_first=True))
        while not await self._is_last():
            self._deferral.recovering()
            await self._next()
            await self._finish(self._start(only_first=self._alone))
        released = self._start()
        # They begin in this turn of the loop, and so are in the pipeline before anything that is let go now.
        await asyncio.sleep(0)
        self._deferral.reopen()
        await self._finish(released)

    async def _is_last(self) -> bool:
        """Whether the batch holds all that waits now, and nothing more comes to wait."""
        if self._batch or self._spool.events > MAX_EVENTS:
            return False
        self._deferral.hand_over()
        await self._spool.settled()
        while batch := await self._spool.read(MAX_EVENTS, MAX_BYTES):
            self._take(batch)
        return sum(waiting.kept.count for waiting in self._batch) >= self._spool.events

    async def _next(self) -> None:
        """Read the next batch, unless something of the last one is left."""
        if self._batch:
            return
        self._take(await self._spool.read(MAX_EVENTS, MAX_BYTES))
        if not self._batch and self._spool.events:
            # What there is was still on its way to disk.
            await self._spool.settled()
            self._take(await self._spool.read(MAX_EVENTS, MAX_BYTES))

    def _take(self, batch: list[Waiting]) -> None:
        for waiting in batch:
            if self._doubtful > 0:
                waiting.produced = True
                self._doubtful -= waiting.kept.count
        self._batch.extend(batch)

    def _start(self, *, only_first: bool = False) -> "dict[asyncio.Task[None], Waiting]":
        loop = asyncio.get_running_loop()
        batch = [waiting for waiting in self._batch if not waiting.done]
        return {loop.create_task(self._carry(waiting)): waiting for waiting in (batch[:1] if only_first else batch)}

    async def _finish(self, released: "dict[asyncio.Task[None], Waiting]") -> None:
        """Wait for the requests; on the first failure take the others back, for they came after it.

        Raises:
            ClewError: The failure. What was released of the batch before is done.
        """
        try:
            if released:
                await asyncio.wait(released, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in released:
                task.cancel()
            await asyncio.gather(*released, return_exceptions=True)
        failures = [(waiting, error) for task, waiting in released.items() if (error := _failure(task)) is not None]
        # Those that were taken back say only that another one failed.
        failures.sort(key=lambda failure: isinstance(failure[1], asyncio.CancelledError))
        try:
            if failures:
                await self._judge(*failures[0])
        finally:
            await self._mark()

    async def _judge(self, waiting: Waiting, error: BaseException) -> None:
        """What a failure means: an outage, copies in each other's way, or something that waiting does not mend."""
        if waiting.in_doubt and not self._alone:
            # About a copy in its batch, maybe one of many: from now on each for itself, which needs no pause.
            self._alone = True
            self._deferral.shut("copies of an event are released one after the other")
            await self._ready()
            return
        if isinstance(error, TRANSIENT):
            raise error
        if isinstance(error, asyncio.CancelledError):
            raise BusUnavailable("the spooled requests were given up")
        # One request of a batch can spoil all: from now on each for itself, until the culprit is found.
        if self._alone:
            waiting.tries += 1
            if waiting.tries >= _MOST_TRIES:
                await self._spool.set_aside(waiting, repr(error))
                return
        self._alone = True
        raise Internal(f"a spooled request could not be carried: {error!r}") from None

    async def _mark(self) -> None:
        """Forget what is done at the beginning of the batch."""
        last: Waiting | None = None
        while self._batch and self._batch[0].done:
            last = self._batch.popleft()
        if last is not None:
            await self._spool.mark(last)
        self._alone = self._alone and bool(self._batch)

    async def _carry(self, waiting: Waiting) -> None:
        submission = release(waiting.kept, self._request_seconds, again=self._spool.was_produced(waiting))
        if self._tap.open:
            self._tap.begin(submission)
        try:
            await self._pipeline.submit(submission)
        except ClewError as error:
            waiting.in_doubt = in_doubt(submission, error)
            raise
        finally:
            waiting.produced |= submission.produced
        self._spool.done(waiting)
        self._stats.released(submission)
        if self._tap.open:
            self._tap.end(submission)


def _failure(task: "asyncio.Task[None]") -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
