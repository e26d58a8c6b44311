"""How an rpc is called once its request is read: over a channel, or by a function of this process."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.caller import Caller, HttpCaller
from gateway.http.message import Request
from mesh.status import error_from_rpc
from mesh.validation import validate

T = TypeVar("T")

Unary = Callable[[Message, Request], Awaitable[Message]]
"""Calls an rpc with its request, for an HTTP request; raises `ClewError`."""
ServerStream = Callable[[Message, Request], AsyncIterator[Message]]
"""The same for an rpc that answers with a stream. Closing the iterator ends the call."""


@dataclass(frozen=True, slots=True)
class Calls:
    """How the rpcs of one service are called."""

    unary: Callable[[MethodDescriptor], Unary]
    stream: Callable[[MethodDescriptor], ServerStream]


def over_channel(channel: grpc.aio.Channel, name: str) -> Calls:
    """Call a service over a channel, by the descriptor of its method.

    Nothing of the HTTP request becomes metadata: the channel itself adds the trace, and the deadline in force is the
    call's.

    Args:
        channel: Where the service is.
        name: Its short name, for what is refused on its behalf.
    """

    def unary(method: MethodDescriptor) -> Unary:
        rpc = channel.unary_unary(*_signature(method))

        async def call(message: Message, _: Request) -> Message:
            try:
                response: Message = await rpc(message)
            except grpc.aio.AioRpcError as error:
                raise error_from_rpc(error, name) from None
            return response

        return call

    def stream(method: MethodDescriptor) -> ServerStream:
        rpc = channel.unary_stream(*_signature(method))

        async def call(message: Message, _: Request) -> AsyncIterator[Message]:
            running = rpc(message)
            try:
                async for item in running:
                    yield item
            except grpc.aio.AioRpcError as error:
                raise error_from_rpc(error, name) from None
            finally:
                running.cancel()

        return call

    return Calls(unary, stream)


def in_process(rpcs: Mapping[str, Unary], streams: Mapping[str, ServerStream] | None = None) -> Calls:
    """Call functions of this process, by the name of the rpc; one that is missing is a `LookupError` at start."""

    def unary(method: MethodDescriptor) -> Unary:
        return _found(rpcs, method)

    def stream(method: MethodDescriptor) -> ServerStream:
        return _found(streams or {}, method)

    return Calls(unary, stream)


def servicer_unary(serve: Callable[[Any, Caller], Awaitable[Message]]) -> Unary:
    """A servicer's method, with what the gRPC server would do before it: the request keeps the contract's rules."""

    async def call(message: Message, request: Request) -> Message:
        validate(message)
        return await serve(message, HttpCaller(request.headers))

    return call


def servicer_stream(serve: Callable[[Any, Caller], AsyncGenerator[Message, None]]) -> ServerStream:
    """The same for a method that answers with a stream."""

    async def call(message: Message, request: Request) -> AsyncIterator[Message]:
        validate(message)
        async with aclosing(serve(message, HttpCaller(request.headers))) as responses:
            async for response in responses:
                yield response

    return call


def _found(table: Mapping[str, T], method: MethodDescriptor) -> T:
    if method.name not in table:
        raise LookupError(f"{method.full_name}: no function of this process serves it")
    return table[method.name]


def _signature(method: MethodDescriptor) -> tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    return path, GetMessageClass(method.input_type).SerializeToString, GetMessageClass(method.output_type).FromString
