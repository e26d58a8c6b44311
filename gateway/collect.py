"""One request for events, from its credentials to its outcomes: the HTTP and the gRPC door lead here."""

import asyncio
import time
from collections.abc import Callable

from opentelemetry.trace import Span

from gateway.admission import Admission
from gateway.batch import Outcome, Submission
from gateway.credentials import Credentials
from gateway.decode.types import DecodedRequest
from gateway.pipeline import Pipeline
from gateway.stats import Stats
from mesh.deadline import remaining
from mesh.errors import ClewError, DeadlineExceeded

EMPTY = DecodedRequest(write_key="", events=[], rejected=[], count=0)


class Collector:
    """Admits requests and carries them through the pipeline within the edge's time budget (seconds)."""

    def __init__(self, admission: Admission, pipeline: Pipeline, stats: Stats, *, request_seconds: float) -> None:
        self._admission = admission
        self._pipeline = pipeline
        self._stats = stats
        self._request_seconds = request_seconds

    async def collect(
        self,
        decode: Callable[[], DecodedRequest],
        credentials: Credentials,
        *,
        span: Span,
        received_ns: int,
        client_ip: str,
        size: int,
    ) -> list[Outcome]:
        """What became of each event, in order. `size` is that of the body in bytes.

        Credentials in the headers are checked before the body is looked at, so that a stranger costs no decoding.

        Raises:
            ClewError: The request as a whole was refused; nothing was acknowledged.
        """
        if credentials.write_key:
            self._admission.source(credentials)
        decoded = decode()
        credentials = credentials.or_write_key(decoded.write_key)
        source = self._admission.source(credentials)
        proven = await self._admission.proven(credentials, decoded)
        submission = Submission(
            source=source,
            decoded=decoded,
            trace=span.get_span_context(),
            received_ns=received_ns,
            client_ip=client_ip,
            deadline=time.monotonic() + remaining(self._request_seconds),
            size=size,
            proven=proven,
        )
        if span.is_recording():
            span.set_attributes(
                {"clew.workspace": source.workspace, "clew.source": source.name, "clew.events": decoded.count}
            )
        await self._carry(submission)
        return [submission.outcomes[index] for index in range(decoded.count)]

    async def _carry(self, submission: Submission) -> None:
        if not submission.count:
            return
        self._stats.begin(submission)
        try:
            await self._submit(submission)
        except ClewError as error:
            submission.error = error
            raise
        finally:
            self._stats.end(submission)

    async def _submit(self, submission: Submission) -> None:
        try:
            async with asyncio.timeout(submission.deadline - time.monotonic()):
                await self._pipeline.submit(submission)
        except TimeoutError as error:
            raise DeadlineExceeded("the events were not acknowledged in time; send the same ones again") from error
