"""The span of one HTTP request: whose trace it continues, and how it ends."""

from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, Status, StatusCode

from gateway.http.message import Headers
from mesh.errors import ClewError
from mesh.status import http_status
from mesh.tracecontext import parse_traceparent

CLIENT_GONE: Final = 499
"""Stands for the status of a request whose client went away."""

_NO_PARENT = Context()


def parent_of(headers: Headers) -> Context:
    """The context that the client's trace headers name; an empty one, for a new trace, without good ones."""
    value = headers.get_raw(b"traceparent")
    if value is None or len(headers.get_all("traceparent")) > 1:
        return _NO_PARENT
    context = parse_traceparent(value.decode("latin-1"), ",".join(headers.get_all("tracestate")))
    return trace.set_span_in_context(NonRecordingSpan(context), Context()) if context else _NO_PARENT


def status_of(error: BaseException) -> int:
    """What the server makes of an error; 499 for a cancellation, as it comes of a client that went away."""
    if isinstance(error, ClewError):
        return http_status(error)
    return 500 if isinstance(error, Exception) else CLIENT_GONE


def end_span(span: Span, status: int) -> None:
    """End a request's span with the status of its answer."""
    if span.is_recording():
        span.set_attribute("http.response.status_code", status)
        if status == CLIENT_GONE:
            span.set_status(Status(StatusCode.ERROR, "the client went away"))
        elif status >= 500:
            span.set_status(Status(StatusCode.ERROR))
    span.end()
