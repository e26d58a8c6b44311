"""The server's side: each message that comes is a call of the batch rpc beside the stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from clew.errors.v1.errors_pb2 import ErrorReason
from clew.stream.v1.call_pb2 import Call, Refusal
from mesh import deadline, status, tracecontext
from mesh.errors import ClewError, InvalidArgument, Overloaded
from mesh.interceptors.observation import Method, Observation
from mesh.interceptors.refusal import REASON_ATTRIBUTE, refusal_of
from mesh.streams.outbox import Outbox
from mesh.validation import validate
from mesh.wire import number_tag, part_tag, varint

# Calls of one stream that may run at a time; a caller that lets more pile up is better refused than queued.
MOST_RUNNING: Final = 256

_GOODBYE: Final = b""

ServicerT = TypeVar("ServicerT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
Unary = Callable[[ServicerT, RequestT, Any], Awaitable[ResponseT]]


class StreamOf(Generic[ServicerT, RequestT, ResponseT]):
    """Declares, in a servicer's body, the stream beside a batch rpc: `StreamX = StreamOf(BatchX, StreamXResponse)`.

    The interceptor serves it; that is where spans and measurements come from.

    Args:
        unary: The servicer's method of the batch rpc.
        response_type: The message that the stream answers with.
    """

    def __init__(self, unary: Unary[ServicerT, RequestT, ResponseT], response_type: type[Message]) -> None:
        self.unary = unary
        self.response_type = response_type

    def __get__(self, servicer: ServicerT, owner: type[ServicerT]) -> "BoundStream":
        """The stream of one servicer."""
        return BoundStream(self.unary.__get__(servicer, owner), self.unary.__name__, self.response_type)


class BoundStream:
    """The stream beside a batch rpc of one servicer; it does nothing by itself."""

    def __init__(
        self, unary: Callable[[Any, Any], Awaitable[Message]], name: str, response_type: type[Message]
    ) -> None:
        self.unary = unary
        self.name = name
        self.id_tag = number_tag(response_type, "call_id")
        self.batch_tag = part_tag(response_type, "batch")
        self.refusal_tag = part_tag(response_type, "refusal")

    async def __call__(self, requests: object, context: object) -> None:
        """Refuse: the server's interceptor takes the stream's place, and this server has none."""
        del requests, context
        raise TypeError(f"{self.name}: the server has no interceptor that serves its stream")


class OpenStreams:
    """The streams of a process, so that a drain can ask their clients to leave."""

    def __init__(self) -> None:
        self._open: set[CallStream] = set()

    async def serve(self, bound: BoundStream, method: Method, context: Any) -> None:
        """Serve one stream to its end."""
        stream = CallStream(bound, method, context)
        self._open.add(stream)
        try:
            await stream.serve()
        finally:
            self._open.discard(stream)

    def say_goodbye(self) -> None:
        """Ask the clients of all streams to begin no more calls on them."""
        for stream in self._open:
            stream.say_goodbye()


class CallStream:
    """One open stream and the calls that run on it."""

    def __init__(self, bound: BoundStream, method: Method, context: Any) -> None:
        self._bound = bound
        self._method = method
        self._context = context
        self._outbox = Outbox(context.write)
        self._running: dict[int, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Take calls until the client half-closes or goes away; then no call of it runs any more.

        Raises:
            InvalidArgument: A message is none of the contract's, so that nothing that follows can be trusted.
        """
        read = self._context.read
        try:
            while (message := await read()) is not grpc.aio.EOF:
                self._take(message)
            if self._running:
                await asyncio.wait(self._running.values())
            await self._outbox.flush()
        finally:
            for task in self._running.values():
                task.cancel()
            self._outbox.close()

    def say_goodbye(self) -> None:
        """Ask the client to begin no more calls here."""
        self._outbox.send(_GOODBYE)

    def _take(self, message: Any) -> None:
        number = message.call.id
        if not number:
            raise InvalidArgument("a call on a stream needs an id", field="call.id", rule="uint64.gte")
        if not message.HasField("batch"):
            task = self._running.get(number)
            if task is not None:
                task.cancel()
        elif number in self._running:
            raise InvalidArgument("a call on a stream needs an id of its own", field="call.id", rule="unique")
        elif len(self._running) >= MOST_RUNNING:
            self._refuse(number, Overloaded(f"more than {MOST_RUNNING} calls run on this stream"))
        else:
            task = asyncio.get_running_loop().create_task(self._run(message.call, message.batch))
            self._running[number] = task
            # Not in the coroutine: a task that is cancelled before its first step runs none of its code.
            task.add_done_callback(lambda _: self._running.pop(number, None))

    async def _run(self, call: Call, request: Message) -> None:
        seconds = call.timeout.seconds + call.timeout.nanos / 1e9 if call.HasField("timeout") else None
        deadline.set_deadline(seconds)
        parent = _parent(call)
        observation = self._method.start(parent)
        attach(set_span_in_context(observation.span, parent))
        try:
            async with asyncio.timeout(seconds):
                validate(request)
                response = await self._bound.unary(request, self._context)
        except asyncio.CancelledError:
            observation.finish(grpc.StatusCode.CANCELLED)
            raise
        except TimeoutError:
            # The caller has stopped waiting by itself: it needs no answer.
            observation.finish(grpc.StatusCode.DEADLINE_EXCEEDED)
        except Exception as error:  # noqa: BLE001 - whatever it was, the caller is told and the stream goes on
            self._fail(call.id, observation, error)
        else:
            observation.finish(grpc.StatusCode.OK)
            self._answer(call.id, self._bound.batch_tag, response.SerializeToString())

    def _fail(self, number: int, observation: Observation, error: Exception) -> None:
        refusal, description = refusal_of(error, observation, self._method.name)
        observation.span.set_attribute(REASON_ATTRIBUTE, ErrorReason.Name(refusal.reason))
        observation.finish(status.grpc_status(refusal), description)
        self._refuse(number, refusal)

    def _refuse(self, number: int, error: ClewError) -> None:
        code = status.grpc_status(error).value[0]
        message = Refusal(code=code, reason=error.reason, detail=error.detail, metadata=error.metadata)
        self._answer(number, self._bound.refusal_tag, message.SerializeToString())

    def _answer(self, number: int, tag: bytes, outcome: bytes) -> None:
        id_field = self._bound.id_tag + varint(number)
        self._outbox.send(b"".join((id_field, tag, varint(len(outcome)), outcome)))


def _parent(call: Call) -> Context:
    remote = tracecontext.parse_traceparent(call.traceparent, call.tracestate) if call.traceparent else None
    return Context() if remote is None else set_span_in_context(NonRecordingSpan(remote), Context())


def readable(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer whose failure ends the stream with a reason: an empty message, which no call is."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return deserialize(b"")

    return read
