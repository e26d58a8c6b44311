"""The client's side of every rpc: span, trace headers, timeout.

Not grpc.aio's client interceptors: those wrap each call in a task and a call object of their own, which cost more than
all that is done here and get cancellation and partly read streams wrong. Instead the channel is wrapped: the caller
gets gRPC's own call object, and the span ends by its done callback, which gRPC runs exactly once however the call ends:
an answer, an error, the deadline, `cancel()`, cancellation of the task that awaits it, the end of the channel.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import grpc
from google.protobuf.message import Message
from opentelemetry.semconv.attributes import server_attributes
from opentelemetry.trace import SpanKind

from mesh import deadline, tracecontext
from mesh.interceptors.instruments import Instruments
from mesh.interceptors.observation import Attributes, Method, Observation, Observer
from mesh.streams.client import StreamedCalls

# For unary answers whose caller named no timeout and has no deadline.
DEFAULT_TIMEOUT_SECONDS: Final = 10.0

_STANDARD_SERVICES: Final = "/grpc."

Q = TypeVar("Q")
R = TypeVar("R")
Serializer = Callable[[Q], bytes]
Deserializer = Callable[[bytes], R]
Metadata = Any


class TracedChannel(grpc.aio.Channel):
    """A channel whose calls are traced and measured, carry the trace context, and never outlast the current deadline.

    A call that is refused before it is made, because no time is left, raises `DeadlineExceeded` at once. A stream that
    is not read to its end must be cancelled, as with any channel.

    Args:
        inner: The channel that does the work.
        target: What it was opened for.
        service: Short name of the upstream.
        instruments: Where spans and measurements go.
    """

    def __init__(self, inner: grpc.aio.Channel, target: str, service: str, instruments: Instruments) -> None:
        self.service = service
        self._inner = inner
        self._observer = Observer(instruments, SpanKind.CLIENT, _server_attributes(target))
        self._calls: list[StreamedCalls[Any, Any]] = []

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer[Q] | None = None,
        response_deserializer: Deserializer[R] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Q, R]:
        """Calls of one request and one response."""
        inner = _registered(self._inner.unary_unary)(
            method, request_serializer, response_deserializer, _registered_method
        )
        return cast(
            "grpc.aio.UnaryUnaryMultiCallable[Q, R]",
            self._observed(_OneRequest, method, inner, DEFAULT_TIMEOUT_SECONDS),
        )

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer[Q] | None = None,
        response_deserializer: Deserializer[R] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Q, R]:
        """Calls of one request and many responses; without a timeout only the current deadline bounds them."""
        inner = _registered(self._inner.unary_stream)(
            method, request_serializer, response_deserializer, _registered_method
        )
        return cast("grpc.aio.UnaryStreamMultiCallable[Q, R]", self._observed(_OneRequest, method, inner, math.inf))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer[Q] | None = None,
        response_deserializer: Deserializer[R] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Q, R]:
        """Calls of many requests and one response."""
        inner = _registered(self._inner.stream_unary)(
            method, request_serializer, response_deserializer, _registered_method
        )
        return cast(
            "grpc.aio.StreamUnaryMultiCallable[Q, R]",
            self._observed(_ManyRequests, method, inner, DEFAULT_TIMEOUT_SECONDS),
        )

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer[Q] | None = None,
        response_deserializer: Deserializer[R] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Q, R]:
        """Calls of many requests and many responses; without a timeout only the current deadline bounds them."""
        inner = _registered(self._inner.stream_stream)(
            method, request_serializer, response_deserializer, _registered_method
        )
        return cast("grpc.aio.StreamStreamMultiCallable[Q, R]", self._observed(_ManyRequests, method, inner, math.inf))

    def calls(
        self, stream: str, batch: str, request_type: type[Message], response_type: type[R]
    ) -> StreamedCalls[Any, Any]:
        """Calls of a batch rpc over the stream beside it.

        Args:
            stream: `package.Service/StreamVerb`.
            batch: Name of the batch rpc, as observations have it.
            request_type: The message that the stream takes.
            response_type: The message that the stream answers with.
        """
        read = cast("type[Message]", response_type).FromString
        method = Method(self._observer, f"{stream.rpartition('/')[0]}/{batch}")
        calls: StreamedCalls[Any, Any] = StreamedCalls(
            self._inner.stream_stream(f"/{stream}", None, read), request_type, method, self.service
        )
        self._calls.append(calls)
        return calls

    def _observed(self, kind: type["_Callable"], path: str, inner: Any, limit: float) -> Any:
        if path.startswith(_STANDARD_SERVICES):
            return inner
        return kind(inner, Method(self._observer, path.removeprefix("/")), limit)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls that still run after the grace, in seconds, are cancelled."""
        for calls in self._calls:
            await calls.close()
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the connection."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is another one."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until calls can be made."""
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


class _Callable:
    """What a stub calls for one rpc method.

    Args:
        inner: gRPC's own.
        method: How observations name it.
        limit: Timeout in seconds for calls that have none; infinite: only the current deadline bounds them.
    """

    __slots__ = ("_inner", "_limit", "_method")

    def __init__(self, inner: Any, method: Method, limit: float) -> None:
        self._inner = inner
        self._method = method
        self._limit = limit

    def _call(self, request: Any, timeout: float | None, metadata: Metadata, options: dict[str, Any]) -> Any:
        seconds = deadline.remaining(self._limit if timeout is None else timeout)
        observation = self._method.start(None)
        try:
            call = self._inner(
                request,
                timeout=None if seconds == math.inf else seconds,
                metadata=_with_trace(observation, metadata),
                **options,
            )
        except BaseException:
            # The channel is closed, or an argument is wrong: no call was made, so no callback will come.
            observation.finish(grpc.StatusCode.INTERNAL)
            raise
        call.add_done_callback(lambda done: observation.finish(_final_code(done)))
        return call


class _OneRequest(_Callable):
    """For rpcs that take one request."""

    __slots__ = ()

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Metadata = None, **options: Any) -> Any:
        return self._call(request, timeout, metadata, options)


class _ManyRequests(_Callable):
    """For rpcs that take a stream of requests."""

    __slots__ = ()

    def __call__(
        self,
        request_iterator: AsyncIterator[Any] | Iterator[Any] | None = None,
        timeout: float | None = None,
        metadata: Metadata = None,
        **options: Any,
    ) -> Any:
        return self._call(request_iterator, timeout, metadata, options)


def _registered(make: Any) -> Callable[..., Any]:
    """Generated stubs pass a fourth argument that gRPC's published types do not know."""
    return cast("Callable[..., Any]", make)


def _with_trace(observation: Observation, metadata: Metadata) -> Metadata:
    """The caller's own metadata, and the headers by which the server continues the trace."""
    context = observation.span.get_span_context()
    headers = [*(metadata or ()), (tracecontext.TRACEPARENT, tracecontext.format_traceparent(context))]
    if context.trace_state:
        headers.append((tracecontext.TRACESTATE, tracecontext.format_tracestate(context)))
    return headers if context.is_valid else metadata


def _final_code(call: Any) -> grpc.StatusCode:
    """The status of a call that has ended: its coroutine has nothing to wait for then, so one step is all."""
    coroutine = call.code()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("grpc.StatusCode", stop.value)
    coroutine.close()
    return grpc.StatusCode.UNKNOWN


def _server_attributes(target: str) -> Attributes:
    """Address and port, as far as the target names one."""
    address, _, port = target.rpartition("/")[2].rpartition(":")
    if not port.isdigit():
        return {server_attributes.SERVER_ADDRESS: target}
    return {server_attributes.SERVER_ADDRESS: address, server_attributes.SERVER_PORT: int(port)}
