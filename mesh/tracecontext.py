"""W3C Trace Context (levels 1 and 2) to and from header text, without propagator machinery.

One parser serves the HTTP edge, gRPC metadata and Kafka headers. A header that breaks the specification is ignored,
never an error: tracing must not refuse what the service itself would accept.
"""

import re
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_MEMBER = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=([ -+\--<>-~]{0,255}[!-+\--<>-~])"
)
_OPTIONAL_SPACE: Final = " \t"
_INVALID_VERSION: Final = "ff"

# Level 2 defines two flags, sampled and random; all others must be ignored and not sent on.
_FLAGS: Final = tuple(TraceFlags(bits) for bits in range(4))
_KNOWN_FLAGS: Final = 3

_MAX_TRACEPARENT = 256
# The specification asks to carry at least 512 characters and allows to drop what is longer.
_MAX_TRACESTATE = 512
_MAX_MEMBERS = 32

_NO_STATE: Final = TraceState()


def parse_traceparent(header: str | None, tracestate: str | None = None) -> SpanContext | None:
    """The caller's span context, remote, or None when the header is absent or breaks the specification.

    Version `ff`, all-zero ids, upper case and anything after a version `00` value are refused; a later version is read
    by its prefix. A header that came several times, joined by commas as HTTP allows, is malformed and so ignored.
    A malformed `tracestate` is dropped without touching the `traceparent`.
    """
    if header is None or len(header) > _MAX_TRACEPARENT:
        return None
    match = _TRACEPARENT.fullmatch(header) or _TRACEPARENT.fullmatch(header.strip(_OPTIONAL_SPACE))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == _INVALID_VERSION or (version == "00" and rest is not None):
        return None
    context = SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=_FLAGS[int(flags, 16) & _KNOWN_FLAGS],
        trace_state=parse_tracestate(tracestate) if tracestate else _NO_STATE,
    )
    return context if context.is_valid else None


def parse_tracestate(header: str) -> TraceState:
    """The vendor entries of a `tracestate` header.

    Empty when it is malformed, has duplicates, or exceeds 32 members or 512 characters.
    """
    if len(header) > _MAX_TRACESTATE:
        return _NO_STATE
    members = [stripped for part in header.split(",") if (stripped := part.strip(_OPTIONAL_SPACE))]
    matches = [match for member in members if (match := _MEMBER.fullmatch(member))]
    pairs = [(match[1], match[2]) for match in matches]
    if len(pairs) != len(members) or len(pairs) > _MAX_MEMBERS or len({key for key, _ in pairs}) != len(pairs):
        return _NO_STATE
    return TraceState(pairs)


def format_traceparent(context: SpanContext) -> str:
    """The version `00` header for a span context; only the flags that the specification defines are sent."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & _KNOWN_FLAGS:02x}"


def format_tracestate(context: SpanContext) -> str:
    """The `tracestate` header for a span context; empty when there is nothing to send."""
    return context.trace_state.to_header() if context.trace_state else ""
