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
from gateway.together import Together
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
        self._arrived = Together[_Call](self._begin)
        self.ended = Together[_Call](self._end)
        """Requests that have left the pipeline."""

    async def collect(self, arrival: Arrival) -> list[Outcome]:
        """What became of each event, in order.

        Raises:
            ClewError: The request as a whole was refused; nothing was acknowledged.
        """
        return await _answered(partial(self.start, arrival))

    def start(self, arrival: Arrival, done: Answered) -> Abandon:
        """Begin to carry a request in the loop's next turn; `done` is called once with its answer.

        It must not raise.
        """
        call = _Call(self, arrival, done)
        self._arrived.add(call)
        return call.abandon

    def _begin(self, arrived: "list[_Call]") -> None:
        for step in (self._admit, self._decode, self._carry):
            for call in arrived:
                if call.waits:
                    try:
                        step(call)
                    except Exception as error:  # noqa: BLE001 - it is this request's answer
                        call.refuse(error)

    def _admit(self, call: "_Call") -> None:
        arrival = call.arrival
        if arrival.credentials.write_key:
            call.source = self._admission.source(arrival.credentials, arrival.origin)
            self._limiter.check(call.source)

    def _decode(self, call: "_Call") -> None:
        arrival = call.arrival
        if arrival.credentials.bearer:
            call.prove()
            return
        decoded = call.decoded = arrival.decode()
        if call.source is None:
            credentials = arrival.credentials.or_write_key(decoded.write_key)
            call.source = self._admission.source(credentials, arrival.origin)
        if _has_token(decoded):
            call.prove()

    async def prove(self, call: "_Call") -> None:
        """Check the tokens of a request, and carry it."""
        admission, arrival = self._admission, call.arrival
        credentials = arrival.credentials
        try:
            subject = await admission.subject(credentials) if credentials.bearer else ""
            decoded = call.decoded = call.decoded or arrival.decode()
            if call.source is None:
                call.source = admission.source(credentials.or_write_key(decoded.write_key), arrival.origin)
            if subject or _has_token(decoded):
                call.proven = await admission.proven(subject, decoded)
            call.proving = None
            self._carry(call)
        except Exception as error:  # noqa: BLE001 - it is this request's answer
            call.refuse(error)

    def _carry(self, call: "_Call") -> None:
        decoded, source, arrival = call.decoded, call.source, call.arrival
        if call.proving is not None or decoded is None or source is None:
            return
        span = arrival.span
        count = decoded.count
        if span.is_recording():
            span.set_attributes({"clew.workspace": source.workspace, "clew.source": source.name, "clew.events": count})
        if not count:
            call.answer([])
            return
        call.passage = self._limiter.enter(source, count, weight(count, arrival.size))
        submission = call.submission = Submission(
            source=source,
            decoded=decoded,
            trace=span.get_span_context(),
            received_ns=arrival.received_ns,
            client_ip=arrival.client_ip,
            # Not the caller's own: requests share batches, and one caller's haste must not cut the others short. A gRPC
            # caller whose deadline passes is cancelled, and leaves its batch by itself.
            deadline=time.monotonic() + self._request_seconds,
            size=arrival.size,
            proven=call.proven,
        )
        self._stats.begin(submission)
        if self._tap.open:
            self._tap.begin(submission)
        call.leave_pipeline = self._pipeline.begin(submission, call.end)

    def refused(self, call: "_Call", error: BaseException) -> None:
        """A request was refused before it was in the pipeline."""
        if self._tap.open and isinstance(error, ClewError):
            arrival = call.arrival
            self._tap.refused(call.source, error, arrival.span.get_span_context(), arrival.received_ns)

    @staticmethod
    def _end(ended: "list[_Call]") -> None:
        for call in ended:
            try:
                call.leave()
            except Exception as error:  # noqa: BLE001 - it is this request's answer, and not its neighbours'
                call.result = error
        for call in ended:
            call.answer(call.result)

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
    """Abandons a request that is not in the pipeline."""


class _Call:
    """One request on its way, and who waits for its answer."""

    __slots__ = (
        "_collector", "_done", "arrival", "decoded", "leave_pipeline", "passage", "proven", "proving", "result",
        "source", "submission",
    )  # fmt: skip

    def __init__(self, collector: Collector, arrival: Arrival, done: Answered) -> None:
        self._collector = collector
        self._done: Answered | None = done
        self.arrival = arrival
        self.source: Source | None = None
        self.decoded: DecodedRequest | None = None
        self.proven = _NOBODY
        self.proving: asyncio.Task[None] | None = None
        self.submission: Submission | None = None
        self.passage: Passage | None = None
        self.leave_pipeline: Abandon = _nothing
        self.result: Answer = []

    @property
    def waits(self) -> bool:
        """Whether somebody waits for its answer."""
        return self._done is not None

    def prove(self) -> None:
        """Let its tokens be checked, which may take time."""
        self.proving = asyncio.get_running_loop().create_task(self._collector.prove(self))

    def refuse(self, error: BaseException) -> None:
        """It does not come into the pipeline."""
        self._collector.refused(self, error)
        self.answer(error)

    def end(self, error: BaseException | None) -> None:
        """The pipeline is done with it."""
        self.leave_pipeline = _nothing
        if error is not None:
            self.result = error
        self._collector.ended.add(self)

    def leave(self) -> None:
        """Note its end, unless it was abandoned."""
        submission, passage, result = self.submission, self.passage, self.result
        if self._done is None or submission is None or passage is None:
            return
        if isinstance(result, BaseException):
            if isinstance(result, ClewError):
                submission.error = result
            self._collector.leave(submission, passage, answered=False)
        else:
            outcomes = submission.outcomes
            self.result = [outcomes[index] for index in range(len(outcomes))]
            self._collector.leave(submission, passage, answered=True)

    def answer(self, answer: Answer) -> None:
        """Tell who waits."""
        done, self._done = self._done, None
        if done is None:
            return
        # A refusal may be held back for a while: what was decoded shall not wait with it.
        self.decoded = self.submission = None
        if self.source is not None and not isinstance(answer, BaseException):
            self._collector.advise(self.arrival, self.source)
        done(answer)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self._done is None:
            return
        self._done = None
        if self.proving is not None:
            self.proving.cancel()
        if self.submission is not None and self.passage is not None:
            self.leave_pipeline()
            self._collector.leave(self.submission, self.passage, answered=False)
        self.leave_pipeline = _nothing


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
