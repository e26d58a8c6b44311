"""One rpc's span and measurement, by OpenTelemetry's RPC semantic conventions for gRPC, ended exactly once.

Shared by both sides. What does not change from call to call is computed once for each rpc method and status.
"""

import time
from typing import Final

import grpc
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv._incubating.metrics import rpc_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from mesh.interceptors.instruments import Instruments

UNKNOWN_METHOD: Final = "_OTHER"

# The conventions' buckets, seconds, and three finer ones below: most of our calls end within a few milliseconds.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# The statuses that say that a server failed; the others are what the caller did, and no error of the server's span.
_SERVER_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_CLIENT_FAULTS: Final = frozenset(grpc.StatusCode) - {grpc.StatusCode.OK}

Attributes = dict[str, AttributeValue]


class Observer:
    """Starts the observations of one side of rpcs.

    Args:
        instruments: Where they go.
        kind: SERVER or CLIENT.
        attributes: What all of them have in common besides the rpc system.
    """

    def __init__(self, instruments: Instruments, kind: SpanKind, attributes: Attributes | None = None) -> None:
        server = kind is SpanKind.SERVER
        self.tracer = instruments.tracer
        self.kind = kind
        self.faults = _SERVER_FAULTS if server else _CLIENT_FAULTS
        self.attributes: Attributes = {rpc_attributes.RPC_SYSTEM_NAME: "grpc", **(attributes or {})}
        self.duration: Histogram = instruments.meter.create_histogram(
            rpc_metrics.RPC_SERVER_CALL_DURATION if server else rpc_metrics.RPC_CLIENT_CALL_DURATION,
            unit="s",
            description="Duration of incoming rpcs." if server else "Duration of outgoing rpcs.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )


class Method:
    """One rpc method, as its observations name it.

    Args:
        observer: The side that it is observed on.
        name: `package.Service/Method`.
    """

    __slots__ = ("_attributes", "_observer", "_outcomes", "name")

    def __init__(self, observer: Observer, name: str) -> None:
        self.name = name
        self._observer = observer
        self._attributes: Attributes = {**observer.attributes, rpc_attributes.RPC_METHOD: name}
        self._outcomes: dict[grpc.StatusCode, tuple[Attributes, Attributes, bool]] = {}

    def start(self, parent: Context | None) -> "Observation":
        """Start to observe a call; without a parent it belongs to the current span."""
        span = self._observer.tracer.start_span(self.name, parent, self._observer.kind, self._attributes)
        return Observation(self, span)

    def outcome(self, code: grpc.StatusCode) -> tuple[Attributes, Attributes, bool]:
        """What a status adds to the span, the attributes of the measurement, and whether it is an error of the span."""
        known = self._outcomes.get(code)
        if known is None:
            fault = code in self._observer.faults
            added: Attributes = {rpc_attributes.RPC_RESPONSE_STATUS_CODE: code.name}
            if fault:
                added[error_attributes.ERROR_TYPE] = code.name
            known = self._outcomes[code] = (added, {**self._attributes, **added}, fault)
        return known

    def record(self, seconds: float, attributes: Attributes) -> None:
        """Record how long a call took."""
        self._observer.duration.record(seconds, attributes)


class Observation:
    """A call that is being observed."""

    __slots__ = ("_finished", "_method", "_started", "span")

    def __init__(self, method: Method, span: Span) -> None:
        self.span = span
        self._method = method
        self._started = time.perf_counter()
        self._finished = False

    def finish(self, code: grpc.StatusCode, description: str | None = None) -> None:
        """End the span with the call's status and measure the call. Only the first time counts.

        Args:
            code: How the call ended.
            description: What went wrong, for faults only; no personal data.
        """
        if self._finished:
            return
        self._finished = True
        added, measured, fault = self._method.outcome(code)
        if self.span.is_recording():
            self.span.set_attributes(added)
            if fault:
                self.span.set_status(Status(StatusCode.ERROR, description))
        self.span.end()
        self._method.record(time.perf_counter() - self._started, measured)
