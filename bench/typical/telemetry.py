"""OpenTelemetry as its documentation sets it up: the official instrumentation and the default batch processor.

Honours the standard variables: OTEL_SDK_DISABLED, OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_ENDPOINT. Without a
collector spans are encoded as for one and dropped, so that the cost of exporting is there and no collector need be.
"""

import os
from collections.abc import Sequence

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from starlette.middleware import Middleware


class DroppingExporter(SpanExporter):
    """Encodes spans for OTLP and sends them nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode."""
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def enabled() -> bool:
    """Tell whether anything is traced."""
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def start_tracing(service: str) -> None:
    """Set the global provider, which the instrumentation uses."""
    if not enabled():
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    collector = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if collector else DroppingExporter()))
    trace.set_tracer_provider(provider)


def http_middleware() -> list[Middleware]:
    """What traces HTTP requests; the spans of single receives and sends are off, as is usual."""
    return [Middleware(OpenTelemetryMiddleware, exclude_spans=["receive", "send"])] if enabled() else []


def server_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """What traces served calls."""
    return [aio_server_interceptor()] if enabled() else []  # type: ignore[no-untyped-call]


def client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """What traces calls made."""
    return list(aio_client_interceptors()) if enabled() else []  # type: ignore[no-untyped-call]
