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
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

import structlog

from clew.collector.v1.collector_service_pb2 import VERDICT_DEFERRED
from gateway.batch import Outcome, Submission
from gateway.carrier import Abandon, Carrier, Done
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


class State(Enum):
    """Where new requests go, see above."""

    OPEN = 1
    SHUT = 2
    RECOVERING = 3
    HANDING = 4


@dataclass(slots=True, eq=False)
class _Attempt:
    """A request in the pipeline: its time, and its place in the spool once it is kept, or why it is not."""

    limit: asyncio.Timeout
    stored: tuple[int, asyncio.Future[None]] | None = None
    refused: ClewError | None = None


class Deferral:
    """A `Carrier` that survives outages of what is behind.

    Args:
        pipeline: Carries requests while it can.
        spool: Keeps them meanwhile.
        patience_seconds: How long the pipeline may take over a request.
    """

    def __init__(self, pipeline: Carrier, spool: Spool, *, patience_seconds: float) -> None:
        self._pipeline = pipeline
        self._spool = spool
        self._patience_seconds = patience_seconds
        self._log = structlog.get_logger("gateway.spool")
        self._attempts: dict[Submission, _Attempt] = {}
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
        task = asyncio.get_running_loop().create_task(self.submit(submission))

        def end(task: "asyncio.Task[None]") -> None:
            if not task.cancelled():
                done(task.exception())

        task.add_done_callback(end)
        return task.cancel

    async def submit(self, submission: Submission) -> None:
        """Carry or keep one request; on return it has an outcome for each event.

        Raises:
            ClewError: Neither could be done.
        """
        if (self._state is State.OPEN and not self._held) or await self._may_pass():
            attempt = await self._attempt(submission)
            if attempt is None:
                return
            if attempt.refused is not None:
                raise attempt.refused
            assert attempt.stored is not None  # noqa: S101 - shutting has set one of the two for every attempt
            _, stored = attempt.stored
        else:
            _, stored = self._spool.put(submission)
        await asyncio.shield(stored)
        _settle_deferred(submission)

    async def _attempt(self, submission: Submission) -> _Attempt | None:
        """Try the pipeline; None when it has carried the request, else where that is kept now."""
        attempt = self._attempts[submission] = _Attempt(asyncio.timeout(self._patience_seconds))
        try:
            async with attempt.limit:
                try:
                    await self._pipeline.submit(submission)
                except TRANSIENT as error:
                    self.shut(str(error))
                else:
                    return None
        except TimeoutError:
            self.shut("no answer in time")
        finally:
            del self._attempts[submission]
            if attempt.stored is not None:
                # Maybe handed over after it was kept: its batch goes on until all of its requests are taken out.
                produced = partial(self._spool.produced.add, attempt.stored[0])
                if submission.produced:
                    produced()
                submission.on_produced = produced
        return attempt

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
        now = asyncio.get_running_loop().time()
        for submission, attempt in self._attempts.items():
            if attempt.stored is None and attempt.refused is None:
                self._keep(submission, attempt)
                if not attempt.limit.expired():
                    attempt.limit.reschedule(now)
        self._let_go(passes=False)

    def _shut(self, problem: str) -> None:
        self._state = State.SHUT
        self.closed.set()
        self._log.warning("events are deferred", problem=problem, waiting=self._spool.events)

    def _keep(self, submission: Submission, attempt: _Attempt) -> None:
        try:
            attempt.stored = self._spool.put(submission)
        except ClewError as error:
            attempt.refused = error
        else:
            submission.spooled = True

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


def _settle_deferred(submission: Submission) -> None:
    """Each event has its verdict; whatever the pipeline said before it was interrupted counts no more."""
    submission.error = None
    outcomes = {event.index: Outcome(event.message_id, VERDICT_DEFERRED) for event in submission.decoded.events}
    outcomes |= {event.index: Outcome(event.message_id, VERDICT_DEFERRED) for event in submission.decoded.rejected}
    submission.outcomes = outcomes
