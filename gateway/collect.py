"""One request for events, from its credentials to its outcomes: the HTTP and the gRPC door lead here."""

import time
from collections.abc import Callable

from opentelemetry.trace import Span

from gateway.admission import Admission
from gateway.batch import Outcome, Submission
from gateway.credentials import Credentials
from gateway.decode.types import DecodedRequest
from gateway.http.message import Pair
from gateway.limits.limiter import Limiter
from gateway.limits.share import weight
from gateway.sources import Source
from gateway.spool.deferral import Carrier
from gateway.stats import Stats
from gateway.tap import Tap
from mesh.errors import ClewError

_NOBODY: frozenset[int] = frozenset()


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

    async def collect(
        self,
        decode: Callable[[], DecodedRequest],
        credentials: Credentials,
        *,
        span: Span,
        received_ns: int,
        client_ip: str,
        size: int,
        origin: str = "",
        advice: list[Pair] | None = None,
    ) -> list[Outcome]:
        """What became of each event, in order. `size` is that of the body in bytes.

        Credentials in the headers are checked before the body is looked at, so that a stranger costs no decoding, nor
        does a source whose rate is used up. `origin` is that of the page that sends; empty when no browser says one.
        `advice` gets the header fields that tell how much of a rate is left.

        Raises:
            ClewError: The request as a whole was refused; nothing was acknowledged.
        """
        source: Source | None = None
        try:
            if credentials.write_key:
                source = self._admission.source(credentials, origin)
                self._limiter.check(source)
            subject = await self._admission.subject(credentials) if credentials.bearer else ""
            decoded = decode()
            if source is None:
                source = self._admission.source(credentials.or_write_key(decoded.write_key), origin)
            proven = await self._admission.proven(subject, decoded) if subject or _has_token(decoded) else _NOBODY
        except ClewError as error:
            if self._tap.open:
                self._tap.refused(source, error, span.get_span_context(), received_ns)
            raise
        submission = Submission(
            source=source,
            decoded=decoded,
            trace=span.get_span_context(),
            received_ns=received_ns,
            client_ip=client_ip,
            # Not the caller's own: requests share batches, and one caller's haste must not cut the others short. A gRPC
            # caller whose deadline passes is cancelled, and leaves its batch by itself.
            deadline=time.monotonic() + self._request_seconds,
            size=size,
            proven=proven,
        )
        if span.is_recording():
            span.set_attributes(
                {"clew.workspace": source.workspace, "clew.source": source.name, "clew.events": decoded.count}
            )
        if decoded.count:
            await self._carry(submission)
        if advice is not None:
            advice += self._limiter.fields(source)
        return [submission.outcomes[index] for index in range(decoded.count)]

    async def _carry(self, submission: Submission) -> None:
        count = submission.count
        try:
            passage = self._limiter.enter(submission.source, count, weight(count, submission.size))
        except ClewError as error:
            if self._tap.open:
                self._tap.refused(submission.source, error, submission.trace, submission.received_ns)
            raise
        self._stats.begin(submission)
        if self._tap.open:
            self._tap.begin(submission)
        answered = False
        try:
            await self._pipeline.submit(submission)
            answered = True
        except ClewError as error:
            submission.error = error
            raise
        finally:
            self._stats.end(submission)
            if self._tap.open:
                self._tap.end(submission)
            self._limiter.leave(passage, answered=answered)
            # Its traceback leads to this request: together they would stay in memory until a garbage collection.
            submission.error = None


def _has_token(decoded: DecodedRequest) -> bool:
    for event in decoded.events:  # noqa: SIM110 - hardly any request has one, and a generator costs more than the look
        if event.context.identity_token:
            return True
    return False
