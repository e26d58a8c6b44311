"""Telemetry: what is recorded, what it costs the caller, and where it goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, get_current_span, set_span_in_context

from mesh.settings import SettingsError
from mesh.spans import find_trace, last_trace_id
from mesh.telemetry import Telemetry, start_telemetry
from mesh.tracecontext import format_traceparent, parse_traceparent

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def started(exporter: InMemorySpanExporter, **environ: str) -> Iterator[Telemetry]:
    """Telemetry whose spans land in memory."""
    telemetry = start_telemetry("svc", None, environ, span_processors=[SimpleSpanProcessor(exporter)])
    yield telemetry
    telemetry.shutdown()


def remote(flags: str) -> Context:
    """The context of a caller with these flags."""
    parent = parse_traceparent(f"00-{TRACE_ID}-b7ad6b7169203331-{flags}")
    assert parent is not None
    return set_span_in_context(NonRecordingSpan(parent))


def test_spans_reach_the_local_store(tmp_path: Path) -> None:
    """A span that ended is found by its trace id after a shutdown, with what was set on it."""
    telemetry = start_telemetry("svc", tmp_path, {})
    with telemetry.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes={"n": 1}) as span:
        with telemetry.tracer.start_as_current_span("inner") as inner:
            inner.set_status(StatusCode.ERROR, "broken")
        trace_id = f"{span.get_span_context().trace_id:032x}"
    telemetry.shutdown()
    request, child = find_trace(tmp_path, trace_id)
    assert (request.name, request.kind, request.service, request.attributes) == ("request", "SERVER", "svc", {"n": 1})
    assert (child.parent_span_id, child.status, child.status_message) == (request.span_id, "ERROR", "broken")
    assert last_trace_id(tmp_path) == trace_id


def test_spans_are_exported_without_a_shutdown(tmp_path: Path) -> None:
    """A running process's spans are on disk well within a second: nobody waits for a trace."""
    telemetry = start_telemetry("svc", tmp_path, {})
    telemetry.tracer.start_span("request").end()
    deadline = time.monotonic() + 5
    while last_trace_id(tmp_path) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    telemetry.shutdown()


def test_records_the_first_roots_of_a_second_only() -> None:
    """Beyond CLEW_TRACE_RATE_LIMIT a root is not recorded."""
    exporter = InMemorySpanExporter()
    with started(exporter, CLEW_TRACE_RATE_LIMIT="3") as telemetry:
        for _ in range(10):
            telemetry.tracer.start_span("request").end()
    # A second may begin in between: the limit is then spent twice.
    assert len(exporter.get_finished_spans()) in {3, 6}


def test_an_unrecorded_root_still_names_its_request() -> None:
    """A root beyond the rate has valid ids and flags 00, so that its context goes on; it is current in its block."""
    exporter = InMemorySpanExporter()
    with started(exporter, CLEW_TRACE_RATE_LIMIT="0") as telemetry:
        with telemetry.tracer.start_as_current_span("request") as span:
            assert get_current_span() is span
        context = span.get_span_context()
    assert context.is_valid
    assert format_traceparent(context).endswith("-00")
    assert not exporter.get_finished_spans()


def test_children_follow_an_unrecorded_parent() -> None:
    """Below an unrecorded root nothing is recorded, and the trace id stays."""
    exporter = InMemorySpanExporter()
    with (
        started(exporter, CLEW_TRACE_RATE_LIMIT="0") as telemetry,
        telemetry.tracer.start_as_current_span("request") as root,
        telemetry.tracer.start_as_current_span("inner") as inner,
    ):
        assert inner.get_span_context() == root.get_span_context()
    assert not exporter.get_finished_spans()


def test_a_sampled_caller_is_followed_beyond_the_rate() -> None:
    """A remote parent that is sampled is continued whatever the rate: its trace would have a hole."""
    exporter = InMemorySpanExporter()
    with started(exporter, CLEW_TRACE_RATE_LIMIT="0") as telemetry:
        telemetry.tracer.start_span("request", context=remote("01")).end()
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID


def test_an_unsampled_caller_is_followed() -> None:
    """A remote parent that is not sampled stays so, and its own context travels on."""
    exporter = InMemorySpanExporter()
    with started(exporter) as telemetry, telemetry.tracer.start_as_current_span("request", remote("00")) as span:
        assert format_traceparent(span.get_span_context()) == f"00-{TRACE_ID}-b7ad6b7169203331-00"
        assert get_current_span() is span
    assert not exporter.get_finished_spans()


@pytest.mark.parametrize(
    ("sampler", "recorded"),
    [
        ("always_on", 5),
        ("parentbased_always_on", 5),
        ("always_off", 0),
        ("traceidratio", 0),
        ("parentbased_always_off", 0),
    ],
)
def test_the_standard_sampler_variable_wins(sampler: str, recorded: int) -> None:
    """OTEL_TRACES_SAMPLER replaces the rate."""
    exporter = InMemorySpanExporter()
    environ = {"CLEW_TRACE_RATE_LIMIT": "1", "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0"}
    with started(exporter, **environ) as telemetry:
        for _ in range(5):
            telemetry.tracer.start_span("request").end()
    assert len(exporter.get_finished_spans()) == recorded


def test_disabled_records_nothing_and_names_requests(tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED stops recording; trace ids are still made, a sampled caller's context still travels on."""
    telemetry = start_telemetry("svc", tmp_path, {"OTEL_SDK_DISABLED": "true"})
    assert telemetry.tracer.start_span("request").get_span_context().is_valid
    followed = telemetry.tracer.start_span("request", context=remote("01"))
    assert format_traceparent(followed.get_span_context()).startswith(f"00-{TRACE_ID}-")
    telemetry.shutdown()
    assert last_trace_id(tmp_path) is None


def test_an_exception_marks_its_span() -> None:
    """An error that leaves the block is on the span, as status and as event."""
    exporter = InMemorySpanExporter()
    with (
        started(exporter) as telemetry,
        pytest.raises(ValueError, match="bad"),
        telemetry.tracer.start_as_current_span("request"),
    ):
        raise ValueError("bad")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


def test_resource_says_who_it_is() -> None:
    """The resource carries the service, its instance and what OTEL_RESOURCE_ATTRIBUTES adds."""
    exporter = InMemorySpanExporter()
    with started(exporter, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=pre%20prod, zone=a") as telemetry:
        telemetry.tracer.start_span("request").end()
    attributes = exporter.get_finished_spans()[0].resource.attributes
    assert attributes["service.name"] == "svc"
    assert attributes["deployment.environment.name"] == "pre prod"
    assert attributes["zone"] == "a"
    assert attributes["service.instance.id"]


def test_measurements_reach_their_readers() -> None:
    """A meter with a reader measures."""
    reader = InMemoryMetricReader()
    telemetry = start_telemetry("svc", None, {}, metric_readers=[reader])
    telemetry.meter.create_counter("requests").add(2)
    data = reader.get_metrics_data()
    assert data is not None
    assert data.resource_metrics[0].scope_metrics[0].metrics[0].name == "requests"
    telemetry.shutdown()


def test_without_a_collector_measurements_cost_nothing() -> None:
    """No endpoint, no metric reader: the meter is a no-op."""
    telemetry = start_telemetry("svc", None, {})
    assert isinstance(telemetry.meter, NoOpMeter)
    telemetry.shutdown()


def test_an_absent_collector_does_not_hold_up_a_shutdown(tmp_path: Path) -> None:
    """With a collector that does not answer, shutdown returns in time and the local store has the spans."""
    # TEST-NET-1 (RFC 5737): no machine answers there.
    telemetry = start_telemetry("svc", tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4317"})
    telemetry.tracer.start_span("request").end()
    begun = time.monotonic()
    telemetry.shutdown(seconds=0.5)
    telemetry.shutdown(seconds=0.5)
    assert time.monotonic() - begun < 3
    assert last_trace_id(tmp_path) is not None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLEW_TRACE_RATE_LIMIT", "-1"),
        ("CLEW_TRACE_RATE_LIMIT", "many"),
        ("CLEW_SPAN_STORE_BYTES", "10"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99999999999999999999"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999999999999"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "99999999999999999999"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "0"),
    ],
)
def test_bad_settings_are_named(variable: str, value: str) -> None:
    """A value that cannot be is refused at start, with the variable's name."""
    with pytest.raises(SettingsError, match=variable):
        start_telemetry("svc", None, {variable: value})
