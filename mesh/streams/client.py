"""The client's side: calls of a batch rpc that share one stream, kept open and opened anew when it ends."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from opentelemetry.trace import SpanContext

from clew.stream.v1.call_pb2 import Call, Refusal
from mesh import deadline, status, tracecontext
from mesh.errors import Cancelled, ClewError, Internal, UpstreamUnavailable
from mesh.interceptors.observation import Method
from mesh.streams.outbox import Outbox
from mesh.wire import part_tag, varint

_NANOS: Final = 1_000_000_000
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
_Answer = asyncio.Future[Any]
"""Resolves to the stream's message for the call, or to a `ClewError`: an error that is raised by a future stays tied to
it by its traceback, and both stay in memory until a garbage collection."""


class StreamedCalls(Generic[RequestT, ResponseT]):
    """Calls one batch rpc over a stream; used like the stub's method of that rpc.

    It belongs to the event loop that it is first called on.

    Args:
        open_stream: gRPC's multi-callable of the stream, which takes bytes and gives response messages.
        request_type: The message that the stream takes.
        method: How observations name the batch rpc.
        service: Short name of the upstream, for errors.
    """

    def __init__(
        self, open_stream: Callable[..., Any], request_type: type[Message], method: Method, service: str
    ) -> None:
        self._open_stream = open_stream
        self._call_tag = part_tag(request_type, "call")
        self._batch_tag = part_tag(request_type, "batch")
        self._method = method
        self._service = service
        self._stream: _Stream | None = None
        self._last_id = 0

    async def __call__(self, request: RequestT, *, timeout: float) -> ResponseT:  # noqa: ASYNC109 - as stubs have it
        """Call, within so many seconds or the current deadline, whichever ends first.

        Raises:
            ClewError: The service refused, could not be reached, or did not answer in time.
        """
        seconds = deadline.remaining(timeout)
        stream = self._stream
        if stream is None or not stream.takes_calls:
            stream = self._stream = _Stream(self._open_stream(), self._service)
        self._last_id += 1
        number = self._last_id
        observation = self._method.start(None)
        message = self._message(number, seconds, observation.span.get_span_context(), request)
        code = grpc.StatusCode.CANCELLED
        try:
            outcome = await stream.call(number, message, seconds)
            code = _code(outcome)
        except asyncio.CancelledError:
            stream.send(self._part(self._call_tag, Call(id=number)))
            raise
        finally:
            observation.finish(code)
        try:
            return cast("ResponseT", _response(outcome))
        finally:
            # An error's traceback holds this frame: it must not lead back to the error, or both stay in memory.
            del outcome

    async def close(self) -> None:
        """Close the stream; calls under way fail."""
        if self._stream is not None:
            await self._stream.close()

    def _message(self, number: int, seconds: float, span: SpanContext, request: RequestT) -> bytes:
        call = Call(id=number)
        if seconds != math.inf:
            whole = int(seconds)
            call.timeout.CopyFrom(Duration(seconds=whole, nanos=int((seconds - whole) * _NANOS)))
        if span.is_valid:
            call.traceparent = tracecontext.format_traceparent(span)
            call.tracestate = tracecontext.format_tracestate(span)
        return self._part(self._call_tag, call) + self._part(self._batch_tag, request)

    @staticmethod
    def _part(tag: bytes, message: Message) -> bytes:
        data = message.SerializeToString()
        return b"".join((tag, varint(len(data)), data))


class _Stream:
    """One open stream and the calls that wait for their responses on it."""

    def __init__(self, stream: Any, service: str) -> None:
        self.takes_calls = True
        self._stream = stream
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(stream.write)
        self._waiting: dict[int, _Answer] = {}
        self._reader = self._loop.create_task(self._read_all())

    def send(self, message: bytes) -> None:
        """Send a message that nobody waits for."""
        self._outbox.send(message)

    async def call(self, number: int, message: bytes, seconds: float) -> Any:
        """The response to a message, or the error that took its place."""
        answer: _Answer = self._loop.create_future()
        self._waiting[number] = answer
        self._outbox.send(message)
        timer = self._loop.call_later(seconds, self._expire, number) if seconds != math.inf else None
        try:
            return await answer
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the stream; whoever waits is told that the service is unavailable."""
        self._stream.cancel()
        self._outbox.close()
        await asyncio.wait((self._reader,))

    def _expire(self, number: int) -> None:
        self._settle(number, status.error_from_code(grpc.StatusCode.DEADLINE_EXCEEDED, self._service))

    def _settle(self, number: int, outcome: object) -> None:
        answer = self._waiting.get(number)
        # The server's answer and the timer may come in one turn of the loop.
        if answer is not None and not answer.done():
            answer.set_result(outcome)

    async def _read_all(self) -> None:
        read = self._stream.read
        error: ClewError = UpstreamUnavailable(self._service)
        try:
            while (message := await read()) is not grpc.aio.EOF:
                if message.call_id:
                    self._settle(message.call_id, message)
                else:
                    await self._leave()
        except grpc.aio.AioRpcError as failure:
            told = status.error_from_rpc(failure, self._service)
            # A process that dies in the middle of a message may end its streams as INTERNAL: no call's own failure.
            error = error if isinstance(told, (Cancelled, Internal)) else told
        except asyncio.CancelledError:
            # gRPC raises it for a stream that was cancelled, which `close` does.
            pass
        finally:
            self.takes_calls = False
            self._outbox.close()
            for number in list(self._waiting):
                self._settle(number, error)

    async def _leave(self) -> None:
        """The server is about to stop: begin no more calls here; those under way still get their responses."""
        self.takes_calls = False
        await self._outbox.flush()
        await self._stream.done_writing()


def _response(outcome: Any) -> Message:
    """The response of a call that succeeded.

    Raises:
        ClewError: It did not.
    """
    try:
        if isinstance(outcome, ClewError):
            raise outcome
        return _answered(outcome)
    finally:
        del outcome


def _answered(message: Any) -> Message:
    if message.HasField("refusal"):
        refusal: Refusal = message.refusal
        raise ClewError.of(refusal.reason, refusal.detail, dict(refusal.metadata))
    return cast("Message", message.batch)


def _code(outcome: Any) -> grpc.StatusCode:
    if isinstance(outcome, ClewError):
        return status.grpc_status(outcome)
    if outcome.HasField("refusal"):
        return _CODES.get(outcome.refusal.code, grpc.StatusCode.UNKNOWN)
    return grpc.StatusCode.OK
