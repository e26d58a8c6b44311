"""One request for events, from its credentials to its outcomes: the HTTP and the gRPC door lead here."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from msgspec import Struct
from opentelemetry.trace import Span

from gateway.admission import Admission
from gateway.batch import Outcome, Submission
from gateway.carrier import Abandon, Carrier, settle
from gateway.credentials import Credentials
from gateway.decode.types import DecodedRequest
from gateway.http.message import Pair
from gateway.limits.limiter import Limiter, Passage
from gateway.limits.share import weight
from gateway.sources import Source
from gateway.stats import Stats
from gateway.tap import Tap
from mesh.errors import ClewError

_NOBODY: frozenset[int] = frozenset()

Answer = list[Outcome] | BaseException
"""What became of each event, in order; or why the request as a whole was not acknowledged."""
Answered = Callable[[Answer], None]


class Arrival(Struct, eq=False):
    """A request as it came through a door.

    Credentials in the headers are checked before `decode` is called, so that a stranger costs no decoding, nor does a
    source whose rate is used up.
    """

    decode: Callable[[], DecodedRequest]
    credentials: Credentials
    span: Span
    received_ns: int
    client_ip: str
    size: int
    """Bytes of the body."""
    origin: str = ""
    """That of the page that sends; empty when no browser says one."""
    advice: list[Pair] | None = None
    """Gets the header fields that tell how much of a rate is left."""


class Collector:
    """Admits requests and carries them through the pipeline within the edge's time budget (seconds).

    Where a spool is asked for, what stands before the pipeline takes its place (`gateway/spool/deferral.py`).
    """

    def __init__(
        self,
        admission: Admission,
        limiter: Limiter,
        pipeline: Carrier,
        stats: Stats,
        *,
        request_seconds: float,
        tap: Tap | None = None,
    ) -> None:
        self._admission = admission
        self._limiter = limiter
        self._pipeline = pipeline
        self._stats = stats
        self._request_seconds = request_seconds
        self._tap = tap or Tap()

    async def collect(self, arrival: Arrival) -> list[Outcome]:
        """What became of each event, in order.

        Raises:
            ClewError: The request as a whole was refused; nothing was acknowledged.
        """
        return await _answered(partial(self.start, arrival))

    def start(self, arrival: Arrival, done: Answered) -> Abandon:
        """Begin to carry a request; `done` is called once with its answer, maybe before this returns.

        It needs no task, unless a token must be checked.

        Raises:
            ClewError: The request as a whole was refused; `done` is not called.
        """
        credentials = arrival.credentials
        source: Source | None = None
        try:
            if credentials.write_key:
                source = self._admission.source(credentials, arrival.origin)
                self._limiter.check(source)
            decoded = None if credentials.bearer else arrival.decode()
            if decoded is None or _has_token(decoded):
                return self._start_proving(arrival, source, decoded, done)
            if source is None:
                source = self._admission.source(credentials.or_write_key(decoded.write_key), arrival.origin)
        except ClewError as error:
            if self._tap.open:
                self._tap.refused(source, error, arrival.span.get_span_context(), arrival.received_ns)
            raise
        return self._carry(arrival, source, decoded, _NOBODY, done)

    def _start_proving(
        self, arrival: Arrival, source: Source | None, decoded: DecodedRequest | None, done: Answered
    ) -> Abandon:
        task = asyncio.get_running_loop().create_task(self._prove_and_carry(arrival, source, decoded))

        def end(task: "asyncio.Task[list[Outcome]]") -> None:
            if not task.cancelled():
                done(task.exception() or task.result())

        task.add_done_callback(end)
        return task.cancel

    async def _prove_and_carry(
        self, arrival: Arrival, source: Source | None, decoded: DecodedRequest | None
    ) -> list[Outcome]:
        admission, credentials = self._admission, arrival.credentials
        try:
            subject = await admission.subject(credentials) if credentials.bearer else ""
            decoded = decoded or arrival.decode()
            if source is None:
                source = admission.source(credentials.or_write_key(decoded.write_key), arrival.origin)
            proven = await admission.proven(subject, decoded) if subject or _has_token(decoded) else _NOBODY
        except ClewError as error:
            if self._tap.open:
                self._tap.refused(source, error, arrival.span.get_span_context(), arrival.received_ns)
            raise
        return await _answered(partial(self._carry, arrival, source, decoded, proven))

    def _carry(
        self, arrival: Arrival, source: Source, decoded: DecodedRequest, proven: frozenset[int], done: Answered
    ) -> Abandon:
        span = arrival.span
        submission = Submission(
            source=source,
            decoded=decoded,
            trace=span.get_span_context(),
            received_ns=arrival.received_ns,
            client_ip=arrival.client_ip,
            # Not the caller's own: requests share batches, and one caller's haste must not cut the others short. A gRPC
            # caller whose deadline passes is cancelled, and leaves its batch by itself.
            deadline=time.monotonic() + self._request_seconds,
            size=arrival.size,
            proven=proven,
        )
        count = decoded.count
        if span.is_recording():
            span.set_attributes({"clew.workspace": source.workspace, "clew.source": source.name, "clew.events": count})
        if not count:
            self.advise(arrival, source)
            done([])
            return _nothing
        try:
            passage = self._limiter.enter(source, count, weight(count, arrival.size))
        except ClewError as error:
            if self._tap.open:
                self._tap.refused(source, error, submission.trace, arrival.received_ns)
            raise
        self._stats.begin(submission)
        if self._tap.open:
            self._tap.begin(submission)
        passing = _Passing(self, arrival, submission, passage, done)
        passing.leave_pipeline = self._pipeline.begin(submission, passing.end)
        return passing.abandon

    def leave(self, submission: Submission, passage: Passage, *, answered: bool) -> None:
        """A request has left the pipeline."""
        self._stats.end(submission)
        if self._tap.open:
            self._tap.end(submission)
        self._limiter.leave(passage, answered=answered)
        # Its traceback leads to this request: together they would stay in memory until a garbage collection.
        submission.error = None

    def advise(self, arrival: Arrival, source: Source) -> None:
        """Tell how much of the source's rate is left."""
        if arrival.advice is not None:
            arrival.advice += self._limiter.fields(source)


def _nothing() -> None:
    """Abandons a request that is answered."""


class _Passing:
    """A request in the pipeline, and who waits for it."""

    __slots__ = ("_arrival", "_collector", "_done", "_passage", "_submission", "leave_pipeline")

    def __init__(
        self, collector: Collector, arrival: Arrival, submission: Submission, passage: Passage, done: Answered
    ) -> None:
        self._collector = collector
        self._arrival = arrival
        self._submission = submission
        self._passage = passage
        self._done: Answered | None = done
        self.leave_pipeline: Abandon = _nothing

    def end(self, error: BaseException | None) -> None:
        """The pipeline is done with it."""
        done, self._done = self._done, None
        if done is None:
            return
        self.leave_pipeline = _nothing
        collector, submission = self._collector, self._submission
        if isinstance(error, ClewError):
            submission.error = error
        collector.leave(submission, self._passage, answered=error is None)
        if error is not None:
            done(error)
            return
        collector.advise(self._arrival, submission.source)
        outcomes = submission.outcomes
        done([outcomes[index] for index in range(len(outcomes))])

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self._done is not None:
            self._done = None
            self.leave_pipeline()
            self.leave_pipeline = _nothing
            self._collector.leave(self._submission, self._passage, answered=False)


async def _answered(start: Callable[[Answered], Abandon]) -> list[Outcome]:
    """Start and wait for the answer; a caller that is cancelled abandons what it has started."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    abandon = start(partial(settle, answer))
    try:
        found = await answer
    except asyncio.CancelledError:
        abandon()
        raise
    if isinstance(found, BaseException):
        try:
            raise found
        finally:
            # A failure's traceback holds this frame: it must not lead back to the failure, or both stay in memory.
            del found, answer, abandon
    return found


def _has_token(decoded: DecodedRequest) -> bool:
    for event in decoded.events:  # noqa: SIM110 - hardly any request has one, and a generator costs more than the look
        if event.context.identity_token:
            return True
    return False
