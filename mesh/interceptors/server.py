"""The server's side of every rpc: span, deadline, contract validation, error mapping.

In this order: the span sees all that follows; the deadline holds before any work is done; what breaks the contract
never reaches the servicer; whatever is raised leaves as a status with exactly one `ErrorInfo`. The standard `grpc.*`
services (health, reflection) are left as they are: they have contracts of their own, and probes would drown what
matters in the traces.

Servicers are asynchronous. Each call runs in a task of its own, which owns its context variables: they are set here and
never reset.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status
from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh import deadline, status, tracecontext
from mesh.errors import InvalidArgument, Unimplemented
from mesh.interceptors.instruments import Instruments
from mesh.interceptors.observation import UNKNOWN_METHOD, Method, Observation, Observer
from mesh.interceptors.refusal import REASON_ATTRIBUTE, refusal_of
from mesh.streams.server import BoundStream, OpenStreams, readable
from mesh.validation import validate

_STANDARD_SERVICES: Final = "/grpc."
_MAX_SHOWN_METHOD: Final = 128

# When a caller goes away grpc.aio ends the stream of its requests as if it had said its last word, and cancels the call
# a moment later. A servicer must not take the one for the other and commit half of what was meant, so the end is
# believed only after that moment.
_END_OF_REQUESTS_SECONDS: Final = 0.002

# Stands for a request whose bytes are no message.
_UNREADABLE: Final = object()

Handler = Any
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method's handler once, and serves every call through the wrapped one; it stands last in the chain.

    Args:
        instruments: Where spans and measurements go.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._observer = Observer(instruments, SpanKind.SERVER)
        self._wrapped: dict[str, Handler] = {}
        self.streams = OpenStreams()
        self._unknown = Method(self._observer, UNKNOWN_METHOD)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Find the handler of a call."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if path.startswith(_STANDARD_SERVICES):
            return handler
        if handler is None:
            return self._refuse_unknown(path)
        stream = handler.stream_stream
        if isinstance(stream, BoundStream):
            wrapped = self._wrapped[path] = self._wrap_stream(stream, handler, path)
        else:
            wrapped = self._wrapped[path] = _wrap(handler, Method(self._observer, path.removeprefix("/")))
        return wrapped

    def _wrap_stream(self, stream: BoundStream, handler: Handler, path: str) -> Handler:
        """A stream of calls: each of them is observed, validated and refused by itself, as a call of the batch rpc."""
        method = Method(self._observer, f"{path.removeprefix('/').rpartition('/')[0]}/{stream.name}")
        name = Method(self._observer, path.removeprefix("/"))

        async def behaviour(_requests: AsyncIterator[Any], context: Any) -> None:
            try:
                await self.streams.serve(stream, method, context)
            except InvalidArgument as error:
                await _Call(name, context).fail(error)

        return grpc.stream_stream_rpc_method_handler(behaviour, readable(handler.request_deserializer), None)

    def _refuse_unknown(self, path: str) -> Handler:
        """A handler that fits any kind of call and refuses it; not kept, for callers could invent names without end."""

        async def refuse(_requests: AsyncIterator[bytes], context: Any) -> None:
            call = _Call(self._unknown, context)
            await call.fail(Unimplemented("no such rpc", method=path[:_MAX_SHOWN_METHOD]))

        return grpc.stream_stream_rpc_method_handler(refuse)


def _wrap(handler: Handler, method: Method) -> Handler:
    """The handler with everything around it, of the same kind and with the same serializers."""
    make, inner = _kind(handler)
    behaviour: Callable[..., Any]
    if inspect.isasyncgenfunction(inner):
        behaviour = _generating(inner, method, handler.request_streaming)
    elif inspect.iscoroutinefunction(inner):
        behaviour = _returning(inner, method, handler.request_streaming)
    else:
        raise TypeError(f"the servicer's method for {method.name} must be asynchronous")
    return make(behaviour, _lenient(handler.request_deserializer), handler.response_serializer)


def _kind(handler: Handler) -> tuple[Callable[..., Handler], Any]:
    """The constructor of such a handler, and the servicer's method in it."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler, handler.unary_unary
        case False, True:
            return grpc.unary_stream_rpc_method_handler, handler.unary_stream
        case True, False:
            return grpc.stream_unary_rpc_method_handler, handler.stream_unary
        case _:
            return grpc.stream_stream_rpc_method_handler, handler.stream_stream


def _returning(inner: Callable[..., Awaitable[Any]], method: Method, streams_in: bool) -> Callable[..., Awaitable[Any]]:
    """Around a coroutine: a unary answer, or a stream that is written through the context."""

    async def behaviour(request: Any, context: Any) -> Any:
        call = _Call(method, context)
        try:
            if streams_in:
                response = await inner(_validated(request), _ValidatingContext(context))
            else:
                _accept(request)
                response = await inner(request, context)
        except BaseException as error:
            await call.fail(error)
            raise
        call.succeed()
        return response

    return behaviour


def _generating(inner: Callable[..., Any], method: Method, streams_in: bool) -> Callable[..., AsyncIterator[Any]]:
    """Around an asynchronous generator: a stream of answers."""

    async def behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
        call = _Call(method, context)
        try:
            if streams_in:
                responses = inner(_validated(request), _ValidatingContext(context))
            else:
                _accept(request)
                responses = inner(request, context)
            async with aclosing(responses):
                async for response in responses:
                    yield response
        except BaseException as error:
            await call.fail(error)
            raise
        call.succeed()

    return behaviour


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer whose failure reaches the handler: grpc.aio would answer it with our classes' names."""
    if deserialize is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNREADABLE

    return read


def _accept(request: Any) -> None:
    if request is _UNREADABLE:
        raise InvalidArgument("the message cannot be parsed as its type", field="", rule="wire_format")
    validate(request)


async def _validated(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        _accept(request)
        yield request
    await asyncio.sleep(_END_OF_REQUESTS_SECONDS)


class _ValidatingContext:
    """A call's context for servicers that read requests from it, so that these are validated as well."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """The next request, or `grpc.aio.EOF`."""
        request = await self._context.read()
        if request is grpc.aio.EOF:
            await asyncio.sleep(_END_OF_REQUESTS_SECONDS)
        else:
            _accept(request)
        return request


class _Call:
    """One inbound call: it starts with its span and deadline in force and ends by `succeed` or `fail`."""

    __slots__ = ("_context", "_method", "_observation")

    def __init__(self, method: Method, context: Any) -> None:
        self._method = method
        self._context = context
        deadline.set_deadline(context.time_remaining())
        parent = _parent(context.invocation_metadata())
        self._observation: Observation = method.start(parent)
        attach(set_span_in_context(self._observation.span, parent))

    def succeed(self) -> None:
        """The servicer returned; it may have set another status than OK."""
        self._observation.finish(self._context.code() or grpc.StatusCode.OK)

    async def fail(self, error: BaseException) -> None:
        """End the call for what was raised: answer with its status, or return for what must go on its way as it is."""
        match error:
            case asyncio.CancelledError() if _is_cancelled():
                # The caller went away or its deadline passed: nobody is left to answer to.
                late = self._context.time_remaining() == 0
                self._observation.finish(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
            case GeneratorExit():
                self._observation.finish(grpc.StatusCode.CANCELLED)
            case grpc.aio.AbortError():
                self._observation.finish(self._context.code() or grpc.StatusCode.UNKNOWN)
            case Exception() | asyncio.CancelledError():
                await self._refuse(error)
            case _:
                self._observation.finish(grpc.StatusCode.UNKNOWN)

    async def _refuse(self, error: BaseException) -> None:
        refusal, description = refusal_of(error, self._observation, self._method.name)
        self._observation.span.set_attribute(REASON_ATTRIBUTE, ErrorReason.Name(refusal.reason))
        self._observation.finish(status.grpc_status(refusal), description)
        await self._context.abort_with_status(rpc_status.to_status(status.rpc_status(refusal)))


def _is_cancelled() -> bool:
    """Whether this very call was cancelled, and not something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _parent(metadata: Any) -> Context:
    """The context that the caller's trace headers name; an empty one, for a new trace, without them."""
    traceparent = tracestate = None
    for key, value in metadata or ():
        if key == tracecontext.TRACEPARENT:
            traceparent = value
        elif key == tracecontext.TRACESTATE:
            tracestate = value
    remote = tracecontext.parse_traceparent(traceparent, tracestate) if traceparent is not None else None
    return Context() if remote is None else set_span_in_context(NonRecordingSpan(remote), Context())
