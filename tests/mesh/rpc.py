"""A small mesh for tests: real servers and channels on loopback, with spans and measurements kept in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind

from clew.identity.v1 import identity_service_pb2 as identity
from clew.identity.v1 import identity_service_pb2_grpc as identity_grpc
from mesh.channel import open_channel, wait_ready
from mesh.interceptors.client import TracedChannel
from mesh.server import GrpcServer, ServerSettings
from mesh.telemetry import Telemetry

IDENTITY = "clew.identity.v1.IdentityService"

Answer = Callable[[identity.GetProfileRequest, Any], Any]


class Recorder:
    """Telemetry whose spans and measurements can be read back."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        traces = TracerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        metrics = MeterProvider([self._reader])
        self.telemetry = Telemetry(traces.get_tracer("test"), metrics.get_meter("test"), traces, metrics)

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """The ended spans, of one kind or all."""
        return [span for span in self._exporter.get_finished_spans() if kind is None or span.kind is kind]

    def span(self, kind: SpanKind) -> ReadableSpan:
        """The only span of its kind."""
        (span,) = self.spans(kind)
        return span

    def durations(self, name: str) -> list[HistogramDataPoint]:
        """The points of a histogram."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        metrics = [
            metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        ]
        return [
            point
            for metric in metrics
            if metric.name == name
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint)
        ]


class IdentityServicer(identity_grpc.IdentityServiceServicer):
    """Answers GetProfile as the test says; offers nothing else."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def GetProfile(self, request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:  # noqa: N802
        """Answer as the test says."""
        response: identity.GetProfileResponse = await self._answer(request, context)
        return response

    BatchResolveIdentities = StreamResolveIdentities = IssueToken = GetJwks = GetProfile  # type: ignore[assignment]


def code_of(span: ReadableSpan) -> object:
    """The status that a span ended with."""
    return (span.attributes or {})["rpc.response.status_code"]


def ids_of(span: ReadableSpan) -> SpanContext:
    """The ids of a span."""
    context = span.get_span_context()
    assert context is not None
    return context


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is true that the other side of a connection makes true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it may become true in any task or thread
            await asyncio.sleep(0.002)


class Mesh:
    """Servers and channels that end with the test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def serve(
        self,
        recorder: Recorder,
        register: Callable[[grpc.aio.Server], object],
        services: tuple[str, ...] = (),
        settings: ServerSettings | None = None,
    ) -> tuple[GrpcServer, int]:
        """Start a server; it is stopped without grace."""
        server = GrpcServer("test", settings or ServerSettings(), recorder.telemetry)
        register(server.server)
        port = await server.start(services)
        self._stack.push_async_callback(server.server.stop, None)
        return server, port

    async def connect(self, port: int, recorder: Recorder, service: str = "identity") -> TracedChannel:
        """Open a channel to a server and wait until it is ready."""
        channel = open_channel(f"127.0.0.1:{port}", service=service, telemetry=recorder.telemetry)
        self._stack.push_async_callback(channel.close)
        await wait_ready(channel, 10)
        return channel

    async def identity(
        self, recorder: Recorder, answer: Answer, client: Recorder | None = None
    ) -> "identity_grpc.IdentityServiceAsyncStub":
        """Start an identity service that answers as the test says, and connect to it."""
        _, port = await self.serve(
            recorder,
            lambda server: identity_grpc.add_IdentityServiceServicer_to_server(IdentityServicer(answer), server),
            (IDENTITY,),
        )
        return identity_grpc.IdentityServiceStub(await self.connect(port, client or recorder))


@asynccontextmanager
async def running_mesh() -> AsyncIterator[Mesh]:
    """A mesh whose channels close before its servers stop."""
    async with AsyncExitStack() as stack:
        yield Mesh(stack)
