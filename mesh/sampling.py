"""Which traces are recorded, and what an unrecorded one costs."""

import random
import time
from collections.abc import Iterator
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    get_current_span,
    use_span,
)
from opentelemetry.trace import _Links as Links
from opentelemetry.util._decorator import _agnosticcontextmanager as span_context_manager
from opentelemetry.util.types import Attributes

from mesh.recording import SpanRecorder

_WINDOW_SECONDS: Final = 1.0


class RootRate:
    """How many root spans a process may record: the first `per_second` of each second, and no more.

    A cap rather than a ratio: a quiet system records all, a busy one spends a bounded share of its time on traces.
    Zero records none.
    """

    __slots__ = ("_left", "_per_second", "_window_end")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = 0
        self._window_end = 0.0

    def admit(self) -> bool:
        """Whether the root span that starts now is recorded."""
        now = time.monotonic()
        if now >= self._window_end:
            self._window_end = now + _WINDOW_SECONDS
            self._left = self._per_second
        if self._left <= 0:
            return False
        self._left -= 1
        return True


class RateLimitedTracer(Tracer):
    """Parent-based sampling in front of a recorder, without the SDK's cost for what is not recorded.

    A child follows its parent: sampled is recorded, not sampled is the parent's own span again, so that the context
    that came in is the one that goes on. A root beyond the rate gets fresh valid ids and flags `00`: it can be named in
    an answer and sent to the next process, which will not record it either. Without a recorder nothing is recorded.
    """

    def __init__(self, recorder: SpanRecorder | None, rate: RootRate) -> None:
        self._recorder = recorder
        self._rate = rate

    def start_span(  # noqa: PLR0917 - the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Links = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """See `opentelemetry.trace.Tracer.start_span`."""
        # They say what `use_span` is to do.
        del record_exception, set_status_on_exception
        unrecorded = self._unrecorded(context)
        if unrecorded is not None:
            return unrecorded
        if self._recorder is None:
            return NonRecordingSpan(get_current_span(context).get_span_context())
        return self._recorder.start(name, context, kind, attributes=attributes, links=links, start_time=start_time)

    @span_context_manager
    def start_as_current_span(  # noqa: PLR0917 - the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Links = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        """See `opentelemetry.trace.Tracer.start_as_current_span`."""
        span = self.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        if span is get_current_span():
            yield span
            return
        with use_span(span, end_on_exit, record_exception, set_status_on_exception):
            yield span

    def _unrecorded(self, context: Context | None) -> Span | None:
        # An empty context is how the edge says that there is no parent: nearly all requests.
        parent = INVALID_SPAN if context is not None and not context else get_current_span(context)
        parent_context = parent.get_span_context()
        if parent_context.is_valid:
            if parent_context.trace_flags & 1:
                return None
            return parent if isinstance(parent, NonRecordingSpan) else NonRecordingSpan(parent_context)
        return None if self._rate.admit() else NonRecordingSpan(new_unsampled_context())


def new_unsampled_context() -> SpanContext:
    """A root context with valid random ids that no process records."""
    # Trace ids must be unique, not secret; the SDK's own generator draws from the same source.
    return SpanContext(
        random.getrandbits(128) or 1,
        random.getrandbits(64) or 1,
        is_remote=False,
    )
