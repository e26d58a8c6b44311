"""OpenTelemetry for one process: a tracer and a meter, made once in main and handed to who needs them.

No global provider is set. Spans always go to the local span store when there is a data directory, and to an OTLP
collector when the standard variables name one; measurements go to the collector only. What exporting costs is kept off
the event loop and in short pieces: small batches every 100 ms instead of 512 spans every 5 s, because one long export
holds the interpreter's lock long enough to be seen in the p99.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Tracer

from mesh.ids import new_id
from mesh.recording import SpanRecorder
from mesh.sampling import RateLimitedTracer, RootRate
from mesh.settings import check_range, read_settings, setting
from mesh.span_writer import DEFAULT_STORE_BYTES, SegmentWriter, SpanStoreExporter
from mesh.task_gauge import add_task_gauge

SamplerName = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]

_INSTRUMENTATION: Final = "clew.mesh"
# A collector that does not answer must not hold up a drain.
_SHUTDOWN_SECONDS: Final = 5.0
_MOST_DELAY_MS: Final = 3_600_000
_MOST_QUEUE: Final = 10_000_000
_NO_EXPORTER: Final = "none"


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is recorded and where it goes; the `OTEL_` names are OpenTelemetry's own."""

    trace_rate_limit: int = setting(
        "CLEW_TRACE_RATE_LIMIT",
        default=200,
        help="Traces that a process starts to record, per second; 0 records none of its own. OTEL_TRACES_SAMPLER wins.",
    )
    span_store_bytes: int = setting(
        "CLEW_SPAN_STORE_BYTES", default=DEFAULT_STORE_BYTES, help="Bytes of spans kept on disk for each service."
    )
    disabled: bool = setting("OTEL_SDK_DISABLED", default=False, help="Record nothing; trace ids still travel on.")
    service_name: str = setting("OTEL_SERVICE_NAME", default="", help="Overrides the service's name at the collector.")
    resource_attributes: tuple[str, ...] = setting(
        "OTEL_RESOURCE_ATTRIBUTES", default=(), help="Resource attributes: key=value, percent-encoded, with commas."
    )
    sampler: SamplerName | None = setting("OTEL_TRACES_SAMPLER", default=None, help="Which traces are recorded.")
    sampler_ratio: float = setting(
        "OTEL_TRACES_SAMPLER_ARG", default=1.0, help="Share of traces, 0 to 1, for the traceidratio samplers."
    )
    otlp_endpoint: str = setting("OTEL_EXPORTER_OTLP_ENDPOINT", default="", help="OTLP collector, gRPC.")
    otlp_traces_endpoint: str = setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", default="", help="OTLP collector for spans only."
    )
    otlp_metrics_endpoint: str = setting(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", default="", help="OTLP collector for measurements only."
    )
    otlp_protocol: Literal["grpc"] = setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL", default="grpc", help="How the collector is spoken to."
    )
    traces_exporter: Literal["otlp", "none"] = setting(
        "OTEL_TRACES_EXPORTER", default="otlp", help="none keeps spans from the collector."
    )
    metrics_exporter: Literal["otlp", "none"] = setting(
        "OTEL_METRICS_EXPORTER", default="otlp", help="none keeps measurements from the collector."
    )
    attribute_characters: int = setting(
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        default=4096,
        help="Characters kept of an attribute, such as a stack trace.",
    )
    export_delay_ms: int = setting("OTEL_BSP_SCHEDULE_DELAY", default=100, help="How long ended spans wait, ms.")
    export_batch: int = setting(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default=32, help="Spans that leave at once, 1 to 4096."
    )
    export_queue: int = setting(
        "OTEL_BSP_MAX_QUEUE_SIZE", default=4096, help="Ended spans that may wait; beyond it they are dropped."
    )

    def __post_init__(self) -> None:
        """Refuse what the SDK would refuse later, or what would store nothing."""
        if self.trace_rate_limit < 0:
            raise ValueError("CLEW_TRACE_RATE_LIMIT: must not be negative; 0 records no traces of its own")
        if self.span_store_bytes < 1024 * 1024:
            raise ValueError("CLEW_SPAN_STORE_BYTES: must be at least 1048576, one MiB")
        if not 0 <= self.sampler_ratio <= 1:
            raise ValueError("OTEL_TRACES_SAMPLER_ARG: must be from 0 to 1")
        if self.attribute_characters < 1:
            raise ValueError("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: must be at least 1")
        check_range("OTEL_BSP_SCHEDULE_DELAY", self.export_delay_ms, 1, _MOST_DELAY_MS)
        check_range("OTEL_BSP_MAX_QUEUE_SIZE", self.export_queue, 1, _MOST_QUEUE)
        if not 1 <= self.export_batch <= self.export_queue:
            most = f"OTEL_BSP_MAX_QUEUE_SIZE, {self.export_queue}"
            raise ValueError(f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE: {self.export_batch} is not from 1 to {most}")


class Telemetry:
    """The process's tracer and meter, and the providers behind them.

    Args:
        tracer: Starts spans.
        meter: Makes instruments.
        traces: The provider that holds the span exporters; None when nothing is exported.
        metrics: The provider that holds the metric readers; None when there is none.
    """

    __slots__ = ("_metrics", "_traces", "meter", "tracer")

    def __init__(
        self, tracer: Tracer, meter: Meter, traces: TracerProvider | None = None, metrics: MeterProvider | None = None
    ) -> None:
        self.tracer = tracer
        self.meter = meter
        self._traces = traces
        self._metrics = metrics

    def flush(self) -> None:
        """Export what has ended. Blocks: for tests and tools, not for an event loop."""
        if self._traces is not None:
            self._traces.force_flush()
        if self._metrics is not None:
            self._metrics.force_flush()

    def shutdown(self, seconds: float = _SHUTDOWN_SECONDS) -> None:
        """Export what is left and stop the exporter threads; blocks for at most so many seconds. Twice does no harm."""
        stopping = threading.Thread(target=self._stop, name="telemetry-shutdown", daemon=True)
        stopping.start()
        stopping.join(seconds)

    def _stop(self) -> None:
        traces, metrics = self._traces, self._metrics
        self._traces = self._metrics = None
        if traces is not None:
            traces.shutdown()
        if metrics is not None:
            metrics.shutdown()


def start_telemetry(
    service: str,
    data_dir: Path | None,
    environ: Mapping[str, str] | None = None,
    *,
    span_processors: Sequence[SpanProcessor] = (),
    metric_readers: Sequence[MetricReader] = (),
) -> Telemetry:
    """Start the exporters that the environment asks for.

    Args:
        service: The process's name in traces.
        data_dir: Where the local span store stands; None for none.
        environ: The environment; the process's own when absent. Certificates, headers, compression and timeouts of
            OTLP are read by the SDK from the process's own in any case.
        span_processors: Further receivers of spans.
        metric_readers: Further readers of measurements.

    Raises:
        SettingsError: A variable holds what it cannot.
    """
    settings = read_settings(TelemetrySettings, environ)
    if settings.disabled:
        return Telemetry(_unrecorded(), NoOpMeterProvider().get_meter(_INSTRUMENTATION))
    resource = _resource(settings, service)
    processors = [_batched(exporter, settings) for exporter in _span_exporters(settings, service, data_dir)]
    tracer, traces = _traces(settings, resource, [*processors, *span_processors])
    meter, metrics = _metrics(resource, [*_otlp_readers(settings), *metric_readers])
    if metrics is not None:
        # A process without a loop has no tasks to be counted.
        with suppress(RuntimeError):
            add_task_gauge(meter, asyncio.get_running_loop())
    return Telemetry(tracer, meter, traces, metrics)


def _unrecorded() -> Tracer:
    """A tracer that records nothing, and still names each request and sends its context on."""
    return RateLimitedTracer(None, RootRate(0))


def _traces(
    settings: TelemetrySettings, resource: Resource, processors: Sequence[SpanProcessor]
) -> tuple[Tracer, TracerProvider | None]:
    if not processors:
        return _unrecorded(), None
    most = settings.attribute_characters
    sampler = sampling.DEFAULT_ON if settings.sampler is None else _standard_sampler(settings.sampler, settings)
    provider = TracerProvider(sampler=sampler, resource=resource, span_limits=SpanLimits(max_attribute_length=most))
    for processor in processors:
        # The provider is also who flushes them and shuts them down.
        provider.add_span_processor(processor)
    if settings.sampler is not None:
        return provider.get_tracer(_INSTRUMENTATION), provider
    recorder = SpanRecorder(processors, resource, InstrumentationScope(_INSTRUMENTATION), most_characters=most)
    return RateLimitedTracer(recorder, RootRate(settings.trace_rate_limit)), provider


def _standard_sampler(name: SamplerName, settings: TelemetrySettings) -> sampling.Sampler:
    """The sampler that a value of OTEL_TRACES_SAMPLER stands for."""
    match name:
        case "always_on":
            return sampling.ALWAYS_ON
        case "always_off":
            return sampling.ALWAYS_OFF
        case "traceidratio":
            return sampling.TraceIdRatioBased(settings.sampler_ratio)
        case "parentbased_always_on":
            return sampling.DEFAULT_ON
        case "parentbased_always_off":
            return sampling.DEFAULT_OFF
        case "parentbased_traceidratio":
            return sampling.ParentBasedTraceIdRatio(settings.sampler_ratio)


def _span_exporters(settings: TelemetrySettings, service: str, data_dir: Path | None) -> list[SpanExporter]:
    """The exporters, the local one first: it is stopped first, and never waits for a network."""
    exporters: list[SpanExporter] = []
    if data_dir is not None:
        exporters.append(SpanStoreExporter(SegmentWriter(data_dir, service, settings.span_store_bytes), service))
    endpoint = settings.otlp_traces_endpoint or settings.otlp_endpoint
    if endpoint and settings.traces_exporter != _NO_EXPORTER:
        # Loaded where there is a collector: it is a tenth of what a process loads at its start.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        exporters.append(OTLPSpanExporter(endpoint=endpoint))
    return exporters


def _batched(exporter: SpanExporter, settings: TelemetrySettings) -> BatchSpanProcessor:
    return BatchSpanProcessor(
        exporter,
        max_queue_size=settings.export_queue,
        schedule_delay_millis=settings.export_delay_ms,
        max_export_batch_size=settings.export_batch,
    )


def _metrics(resource: Resource, readers: Sequence[MetricReader]) -> tuple[Meter, MeterProvider | None]:
    if not readers:
        return NoOpMeterProvider().get_meter(_INSTRUMENTATION), None
    provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    return provider.get_meter(_INSTRUMENTATION), provider


def _otlp_readers(settings: TelemetrySettings) -> list[MetricReader]:
    endpoint = settings.otlp_metrics_endpoint or settings.otlp_endpoint
    if not endpoint or settings.metrics_exporter == _NO_EXPORTER:
        return []
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return [PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint))]


def _resource(settings: TelemetrySettings, service: str) -> Resource:
    pairs = (pair.partition("=") for pair in settings.resource_attributes)
    given = {key.strip(): unquote(value.strip()) for key, separator, value in pairs if separator}
    own = {"service.name": settings.service_name or service, "service.instance.id": new_id()}
    return Resource.create({"service.namespace": "clew", **given, **own})
