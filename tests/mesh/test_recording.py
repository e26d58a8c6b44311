"""Recorded spans: the same as the SDK's, whatever is done to them."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
    use_span,
)
from opentelemetry.util.types import Attributes

from mesh.recording import SpanRecorder
from mesh.sampling import RateLimitedTracer, RootRate
from mesh.tracecontext import parse_traceparent

MOST_CHARACTERS = 40
RESOURCE = Resource.create({"service.name": "svc"})
PARENT = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=1")
assert PARENT is not None
LINK = Link(PARENT, {"why": "the same batch"})

Act = Callable[[Span], None]


class BreakageError(Exception):
    """What goes wrong in these tests."""


def recorded(act: Callable[[Tracer], None], most_characters: int = MOST_CHARACTERS) -> ReadableSpan:
    """The span that our recorder hands on when a tracer is used so."""
    exporter = InMemorySpanExporter()
    scope = InstrumentationScope("clew.mesh")
    recorder = SpanRecorder([SimpleSpanProcessor(exporter)], RESOURCE, scope, most_characters=most_characters)
    act(RateLimitedTracer(recorder, RootRate(1)))
    (span,) = exporter.get_finished_spans()
    return span


def expected(act: Callable[[Tracer], None]) -> ReadableSpan:
    """The span that the SDK's tracer hands on when it is used so."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, span_limits=SpanLimits(max_attribute_length=MOST_CHARACTERS))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    act(provider.get_tracer("clew.mesh"))
    (span,) = exporter.get_finished_spans()
    return span


def said(span: ReadableSpan) -> dict[str, Any]:
    """All that an exporter can read of a span, but for ids that are random."""
    assert span.context is not None
    scope = span.instrumentation_scope
    return {
        "name": span.name,
        "kind": span.kind,
        "parent": span.parent,
        "trace": span.context.trace_id if span.parent else None,
        "state": dict(span.context.trace_state),
        "sampled": span.context.trace_flags.sampled,
        "remote": span.context.is_remote,
        "attributes": dict(span.attributes or {}),
        "events": [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events],
        "links": [(link.context, dict(link.attributes or {})) for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "times": (span.start_time, span.end_time),
        "resource": span.resource.attributes,
        "scope": scope and (scope.name, scope.version or ""),
    }


def _nothing(_: Span) -> None:
    pass


def _attributes(span: Span) -> None:
    span.set_attributes({"text": "x" * 50, "number": 2**40, "first": "again"})
    span.set_attribute("list", ["a", "w" * 50])


def _event(span: Span) -> None:
    span.add_event("seen", {"text": "y" * 50}, 5)


def _renamed(span: Span) -> None:
    span.update_name("other")


def _statuses(span: Span) -> None:
    span.set_status(StatusCode.ERROR, "broken")
    span.set_status(Status(StatusCode.UNSET))
    span.set_status(Status(StatusCode.OK))
    span.set_status(StatusCode.ERROR, "too late")


def _failed(span: Span) -> None:
    span.set_status(Status(StatusCode.ERROR, "broken"))


def _exception(span: Span) -> None:
    for error in (BreakageError("z" * 50), ValueError("bad")):
        span.record_exception(error, {"more": 1}, 7, escaped=True)


def _after_its_end(span: Span) -> None:
    span.end(9)
    span.set_attribute("late", 1)
    span.add_event("late")
    span.update_name("late")
    span.set_status(StatusCode.ERROR)
    span.end(10)


@pytest.mark.parametrize("parented", [False, True], ids=["root", "child"])
@pytest.mark.parametrize(
    "act", [_nothing, _attributes, _event, _renamed, _statuses, _failed, _exception, _after_its_end]
)
def test_a_recorded_span_says_what_the_sdks_would(act: Act, *, parented: bool) -> None:
    """Whatever is set on a span, exporters read the same from it as from the SDK's own."""

    def use(tracer: Tracer) -> None:
        context = set_span_in_context(NonRecordingSpan(PARENT), Context()) if parented and PARENT else Context()
        attributes: Attributes = {"first": "v" * 50, "flag": True}
        span = tracer.start_span("work", context, SpanKind.CLIENT, attributes, [LINK], 3)
        act(span)
        span.end(8)

    assert said(recorded(use)) == said(expected(use))


def test_the_callers_attributes_stay_the_callers() -> None:
    """What is set on a span does not change the attributes that it was started with, which others share."""
    shared = {"n": 1}

    def use(tracer: Tracer) -> None:
        span = tracer.start_span("work", Context(), attributes=shared)
        span.set_attribute("n", 2)
        span.end()

    assert recorded(use).attributes == {"n": 2}
    assert shared == {"n": 1}


def test_times_are_those_of_the_clock() -> None:
    """A span lasts from its start to its end, in Unix nanoseconds."""
    span = recorded(lambda tracer: tracer.start_span("work", Context()).end())
    assert span.start_time is not None
    assert span.end_time is not None
    assert 1_700_000_000_000_000_000 < span.start_time <= span.end_time


def test_what_caused_an_exception_stays_out_of_its_span() -> None:
    """A driver's own words name hosts and tables: they are logged, and not sent to where spans go."""

    def use(tracer: Tracer) -> None:
        span = tracer.start_span("work", Context())
        try:
            try:
                raise ValueError("table secret on host db-7")
            except ValueError as cause:
                raise BreakageError("the store is away") from cause
        except BreakageError as error:
            span.record_exception(error)
        span.end()

    (event,) = recorded(use, 4_000).events
    trace = str((event.attributes or {})["exception.stacktrace"])
    assert "the store is away" in trace
    assert "secret" not in trace


def test_an_exception_through_a_span_is_recorded_once() -> None:
    """As with the SDK, a span that an exception leaves has it as an event and as its status."""

    def use(tracer: Tracer) -> None:
        span = tracer.start_span("work", Context())
        with pytest.raises(BreakageError), use_span(span, end_on_exit=True):
            raise BreakageError("no")

    ours, theirs = recorded(use), expected(use)
    assert ours.status.description == theirs.status.description == "BreakageError: no"
    assert [event.name for event in ours.events] == [event.name for event in theirs.events] == ["exception"]
