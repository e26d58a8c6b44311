"""W3C Trace Context: what is read, what is ignored, what is sent on."""

import logging

import pytest
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from mesh.tracecontext import format_traceparent, format_tracestate, parse_traceparent, parse_tracestate

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
HEADER = f"00-{TRACE_ID}-{SPAN_ID}-01"


def test_reads_a_valid_header() -> None:
    """A well-formed header becomes a remote, sampled context with both ids."""
    context = parse_traceparent(HEADER)
    assert context is not None
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert context.is_remote
    assert context.trace_flags.sampled


def test_round_trips() -> None:
    """What was parsed formats to the same text."""
    context = parse_traceparent(HEADER)
    assert context is not None
    assert format_traceparent(context) == HEADER


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"0X-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}0-01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID}-{SPAN_ID}-0g",
        f"00-{TRACE_ID}-{SPAN_ID}-01-extra",
        f"00-{TRACE_ID}-{SPAN_ID}-01-",
        f"cc-{TRACE_ID}-{SPAN_ID}-01.extra",
        f"00_{TRACE_ID}_{SPAN_ID}_01",
        f"{HEADER},{HEADER}",
        f"{HEADER}, {HEADER}",
        f"{HEADER}\n",
        f"00-{TRACE_ID}-{SPAN_ID}-\u0660\u0661",
        f"cc-{TRACE_ID}-{SPAN_ID}-01-{'x' * 300}",
    ],
)
def test_ignores_what_breaks_the_specification(header: str | None) -> None:
    """Malformed, repeated, version ff or all-zero headers give no context rather than an error."""
    assert parse_traceparent(header) is None


@pytest.mark.parametrize("header", [f"cc-{TRACE_ID}-{SPAN_ID}-01", f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-holds"])
def test_reads_a_later_version_by_its_prefix(header: str) -> None:
    """A higher version is read as far as version 00 goes, and sent on as version 00."""
    context = parse_traceparent(header)
    assert context is not None
    assert format_traceparent(context) == HEADER


def test_strips_optional_whitespace() -> None:
    """Spaces and tabs around the value are HTTP's, not the header's."""
    assert parse_traceparent(f" \t{HEADER}\t ") == parse_traceparent(HEADER)


@pytest.mark.parametrize(
    ("sent", "kept"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")]
)
def test_keeps_only_the_flags_that_are_defined(sent: str, kept: str) -> None:
    """Sampled and random travel on; unknown flags are ignored."""
    context = parse_traceparent(f"00-{TRACE_ID}-{SPAN_ID}-{sent}")
    assert context is not None
    assert format_traceparent(context).endswith(f"-{kept}")


def test_tracestate_travels_with_its_order() -> None:
    """Vendor entries are kept in order; empty members and optional spaces are dropped."""
    context = parse_traceparent(HEADER, "rojo=00f067aa0ba902b7 ,, \tcongo=t61rcWkgMzE,1a2b@vendor=x y")
    assert context is not None
    assert format_tracestate(context) == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,1a2b@vendor=x y"


@pytest.mark.parametrize(
    "tracestate",
    [
        "no-equals",
        "Upper=1",
        "a=1,a=2",
        "a=b=c",
        "a=\x7f",
        "a=",
        ",".join(f"k{i}=1" for i in range(33)),
        f"a={'x' * 600}",
    ],
)
def test_a_bad_tracestate_is_dropped_alone_and_quietly(tracestate: str, caplog: pytest.LogCaptureFixture) -> None:
    """A malformed tracestate vanishes, the traceparent stays, and nothing that a client sent reaches the log."""
    with caplog.at_level(logging.DEBUG):
        context = parse_traceparent(HEADER, tracestate)
    assert context is not None
    assert format_tracestate(context) == ""
    assert not caplog.records


def test_no_tracestate_formats_to_nothing() -> None:
    """A context without vendor entries sends no tracestate."""
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    assert format_tracestate(context) == ""
    assert format_traceparent(context) == f"00-{1:032x}-{2:016x}-01"
    assert parse_tracestate("a=1") == TraceState([("a", "1")])
