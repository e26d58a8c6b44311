"""Stands before the pipeline and lets requests through, or keeps them in the spool and answers `deferred`.

A request goes to the spool when the pipeline refuses it for something that is nobody's fault, or has not answered
within the patience; and then every request behind it does, at once and in order of arrival, so that no later event of a
visitor overtakes an earlier one. The spool is drained beside (`gateway/spool/drain.py`), which opens the way again.

| state      | a new request                                                                    |
|------------|----------------------------------------------------------------------------------|
| open       | goes into the pipeline                                                           |
| shut       | is kept at once: nothing works                                                   |
| recovering | waits a moment for the spool to empty, and is kept when it has not: clients that |
|            | send as fast as they are answered must not fill it faster than it drains         |
| handing    | waits: the last of the spool is being put into the pipeline, and it goes behind  |
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final

import structlog

from clew.collector.v1.collector_service_pb2 import VERDICT_DEFERRED
from gateway.batch import Outcome, Submission
from gateway.carrier import Abandon, Carrier, Done, carried, settle
from gateway.spool.spool import Spool
from mesh.errors import (
    BusUnavailable,
    Cancelled,
    ClewError,
    DeadlineExceeded,
    Draining,
    Overloaded,
    StorageUnavailable,
    UpstreamUnavailable,
)

HOLD_SECONDS: Final = 0.5
"""How long a request waits for a spool that is being drained. Below what answers should take."""
TRANSIENT: Final = (
    BusUnavailable,
    Cancelled,
    DeadlineExceeded,
    Draining,
    Overloaded,
    StorageUnavailable,
    UpstreamUnavailable,
)
"""What the pipeline may refuse a request with that another time may not: an outage, and nobody's fault."""


def in_doubt(submission: Submission, error: BaseException | None) -> bool:
    """Whether a request was refused as nobody knows yet what becomes of another copy of one of its events.

    That is no outage: it is refused alone, and the event in question is the one without an outcome. Where Kafka did not
    acknowledge a record, or all of a batch failed, it is another error, or each event has an outcome.
    """
    alone = error is not None and error is submission.error
    return alone and isinstance(error, BusUnavailable) and len(submission.outcomes) < submission.count


class State(Enum):
    """Where new requests go, see above."""

    OPEN = 1
    SHUT = 2
    RECOVERING = 3
    HANDING = 4


_End = asyncio.Future[None] | BaseException | None
"""How an attempt ends: kept, which is durable once the future resolves; refused; or carried."""


class _Attempt:
    """A request in the pipeline: how it ends, and what ends it."""

    __slots__ = ("abandon", "end", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.end: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self.timer = timer
        self.abandon: Abandon = _nothing


class Deferral:
    """A `Carrier` that survives outages of what is behind.

    Args:
        pipeline: Carries requests while it can.
        spool: Keeps them meanwhile.
        patience_seconds: How long the pipeline may take over a request.
        on_lost: Called with the source and the number of events that were taken for deferred, as their client had gone,
            and could then not be kept.
    """

    def __init__(
        self,
        pipeline: Carrier,
        spool: Spool,
        *,
        patience_seconds: float,
        on_lost: Callable[[str, int], None],
    ) -> None:
        self._pipeline = pipeline
        self._spool = spool
        self._patience_seconds = patience_seconds
        self._on_lost = on_lost
        self._log = structlog.get_logger("gateway.spool")
        self._attempts: dict[Submission, _Attempt] = {}
        """In order of arrival; one that the pipeline has carried, or refused for good, is in it no more."""
        self._kept: dict[Submission, asyncio.Future[None]] = {}
        """Requests on their way to the disk whose clients wait."""
        self._held: dict[asyncio.Future[bool], None] = {}
        self.closed = asyncio.Event()
        """Set while the way into the pipeline is not open."""
        self._state = State.OPEN
        if spool.events:
            self._shut("an earlier run has left events")

    @property
    def state(self) -> State:
        """Where new requests go."""
        return self._state

    def begin(self, submission: Submission, done: Done) -> Abandon:
        """Carry or keep one request, see `Carrier.begin`."""
        task = asyncio.get_running_loop().create_task(self._carry(submission))

        def end(task: "asyncio.Task[None]") -> None:
            if not task.cancelled():
                done(task.exception())

        task.add_done_callback(end)
        return partial(self._abandon, submission, task)

    def _abandon(self, submission: Submission, task: "asyncio.Task[None]") -> None:
        """Nobody waits any more: it is taken out of the pipeline, and deferred if it was being kept."""
        self._drop(submission)
        if (stored := self._kept.pop(submission, None)) is not None:
            _settle_deferred(submission)
            stored.add_done_callback(partial(self._unless_stored, submission))
        task.cancel()

    def _unless_stored(self, submission: Submission, stored: asyncio.Future[None]) -> None:
        if stored.exception() is not None:
            self._on_lost(submission.source.name, submission.count)

    async def submit(self, submission: Submission) -> None:
        """Carry or keep one request; on return it has an outcome for each event.

        Raises:
            ClewError: Neither could be done.
        """
        await carried(partial(self.begin, submission))

    async def _carry(self, submission: Submission) -> None:
        try:
            if (self._state is State.OPEN and not self._held) or await self._may_pass():
                end = await self._attempt(submission)
            else:
                _, end = self._spool.put(submission)
                self._kept[submission] = end
            if isinstance(end, BaseException):
                try:
                    raise end
                finally:
                    # Its traceback holds this frame, see `carried`.
                    del end
            if end is not None:
                await asyncio.shield(end)
                _settle_deferred(submission)
        finally:
            self._kept.pop(submission, None)

    async def _attempt(self, submission: Submission) -> _End:
        """Try the pipeline; how that ends."""
        timer = asyncio.get_running_loop().call_later(self._patience_seconds, self.shut, "no answer in time")
        attempt = self._attempts[submission] = _Attempt(timer)
        attempt.abandon = self._pipeline.begin(submission, partial(self._ended, submission))
        try:
            return await attempt.end
        finally:
            self._drop(submission)

    def _ended(self, submission: Submission, error: BaseException | None) -> None:
        """The pipeline is done with a request: noted at once, or one that was carried could be kept as well."""
        attempt = self._attempts[submission]
        attempt.timer.cancel()
        if isinstance(error, TRANSIENT) and not in_doubt(submission, error):
            # Once all requests of its batch have ended: some of them may be carried.
            asyncio.get_running_loop().call_soon(self.shut, str(error))
            return
        del self._attempts[submission]
        settle(attempt.end, error)

    def _drop(self, submission: Submission) -> None:
        """Take a request out of the pipeline if it is in it."""
        attempt = self._attempts.pop(submission, None)
        if attempt is not None:
            attempt.timer.cancel()
            attempt.abandon()

    async def _may_pass(self) -> bool:
        """Wait where that is what the state says; whether the request goes into the pipeline now."""
        if self._state in {State.RECOVERING, State.HANDING}:
            passes = await self._wait()
        else:
            passes = True
            if self._held:
                # Those that were let go in this very turn of the loop go first.
                await asyncio.sleep(0)
        return passes and self._state is State.OPEN

    async def _wait(self) -> bool:
        loop = asyncio.get_running_loop()
        passes: asyncio.Future[bool] = loop.create_future()
        self._held[passes] = None
        timer = loop.call_later(HOLD_SECONDS, self._expire, passes)
        try:
            return await passes
        finally:
            timer.cancel()
            del self._held[passes]

    def _expire(self, passes: "asyncio.Future[bool]") -> None:
        if self._state is not State.HANDING and not passes.done():
            passes.set_result(False)

    def _let_go(self, *, passes: bool) -> None:
        for held in self._held:
            if not held.done():
                held.set_result(passes)

    def shut(self, problem: str) -> None:
        """Nothing goes into the pipeline from now on; what is in it is kept, in order of arrival, and taken out."""
        if self._state is State.OPEN:
            self._shut(problem)
        self._state = State.SHUT
        for submission in list(self._attempts):
            attempt = self._attempts[submission]
            self._drop(submission)
            settle(attempt.end, self._keep(submission))
        self._let_go(passes=False)

    def _shut(self, problem: str) -> None:
        self._state = State.SHUT
        self.closed.set()
        self._log.warning("events are deferred", problem=problem, waiting=self._spool.events)

    def _keep(self, submission: Submission) -> _End:
        try:
            serial, stored = self._spool.put(submission)
        except ClewError as error:
            return error
        submission.spooled = True
        # Its batch may go on until all of its requests are taken out, and hand it over after it was kept.
        submission.on_produced = partial(self._spool.produced.add, serial)
        self._kept[submission] = stored
        return stored

    def recovering(self) -> None:
        """Something of the spool was published: what is behind works again."""
        self._state = State.RECOVERING

    def hand_over(self) -> None:
        """The last of the spool is about to go into the pipeline: let nothing new be kept."""
        self._state = State.HANDING

    def reopen(self) -> None:
        """The last of the spool is in the pipeline: whatever comes now goes behind it."""
        self._state = State.OPEN
        self.closed.clear()
        self._let_go(passes=True)
        self._log.info("events are not deferred any more")


def _nothing() -> None:
    """Abandons a request that the pipeline has not taken yet."""


def _settle_deferred(submission: Submission) -> None:
    """Each event has its verdict; whatever the pipeline said before it was interrupted counts no more."""
    submission.error = None
    outcomes = {event.index: Outcome(event.message_id, VERDICT_DEFERRED) for event in submission.decoded.events}
    outcomes |= {event.index: Outcome(event.message_id, VERDICT_DEFERRED) for event in submission.decoded.rejected}
    submission.outcomes = outcomes
