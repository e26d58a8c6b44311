"""Streaming calls of all kinds: spans that end once with the right status, validation of each message, cancellation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from structlog.testing import capture_logs

from clew.identity.v1 import identity_service_pb2 as identity
from mesh import deadline, errors, status
from mesh.interceptors.client import TracedChannel
from tests.mesh.rpc import Mesh, Recorder, code_of, eventually, ids_of

SERVICE = "test.Streams"
Query = identity.GetJwksRequest
Checked = identity.GetProfileRequest
Answer = identity.GetJwksResponse
VALID = Checked(workspace="w", profile_id="0190a6e2-7a4b-7cde-8f01-23456789abcd")


class Servicer:
    """Methods of each kind, in each of the styles that grpc.aio offers."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.spans: set[int] = set()

    async def unary_stream(self, _request: Query, _context: Any) -> AsyncIterator[Answer]:
        """Send three answers and then none until the caller goes."""
        try:
            for number in range(3):
                self.spans.add(get_current_span().get_span_context().span_id)
                yield Answer(issuer=str(number))
            await asyncio.sleep(30)
        finally:
            self.closed.append("unary_stream")

    async def short_stream(self, _request: Checked, _context: Any) -> AsyncIterator[Answer]:
        """Send two answers."""
        yield Answer(issuer="0")
        yield Answer(issuer="1")

    async def written_stream(self, _request: Query, context: Any) -> None:
        """Send two answers through the context."""
        await context.write(Answer(issuer="0"))
        await context.write(Answer(issuer="1"))

    async def failing_stream(self, _request: Query, _context: Any) -> AsyncIterator[Answer]:
        """Send one answer and refuse to go on."""
        yield Answer(issuer="0")
        raise errors.StorageUnavailable("disk is full")

    async def flood(self, _request: Query, _context: Any) -> AsyncIterator[Answer]:
        """Send more than any window holds."""
        try:
            while True:
                yield Answer(issuer="x" * 100_000)
        finally:
            self.closed.append("flood")

    async def stream_unary(self, requests: AsyncIterator[Checked], _context: Any) -> Answer:
        """Count the requests."""
        return Answer(issuer=str(len([request async for request in requests])))

    async def read_unary(self, _requests: AsyncIterator[Checked], context: Any) -> Answer:
        """Count the requests, read through the context."""
        count = 0
        while await context.read() is not grpc.aio.EOF:
            count += 1
        return Answer(issuer=f"{count} {context.peer()[:4]}")

    async def stream_stream(self, requests: AsyncIterator[Checked], _context: Any) -> AsyncIterator[Answer]:
        """Answer each request."""
        async for request in requests:
            yield Answer(issuer=request.workspace)

    def register(self, server: grpc.aio.Server) -> None:
        """Offer the methods."""
        one_to_many = grpc.unary_stream_rpc_method_handler
        many_to_one = grpc.stream_unary_rpc_method_handler
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "UnaryStream": one_to_many(self.unary_stream, Query.FromString, Answer.SerializeToString),
            "ShortStream": one_to_many(self.short_stream, Checked.FromString, Answer.SerializeToString),
            "WrittenStream": one_to_many(self.written_stream, Query.FromString, Answer.SerializeToString),
            "FailingStream": one_to_many(self.failing_stream, Query.FromString, Answer.SerializeToString),
            "Flood": one_to_many(self.flood, Query.FromString, Answer.SerializeToString),
            "StreamUnary": many_to_one(self.stream_unary, Checked.FromString, Answer.SerializeToString),
            "ReadUnary": many_to_one(self.read_unary, Checked.FromString, Answer.SerializeToString),
            "StreamStream": grpc.stream_stream_rpc_method_handler(
                self.stream_stream, Checked.FromString, Answer.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class Client:
    """Calls the methods over a traced channel."""

    def __init__(self, channel: TracedChannel) -> None:
        self._channel = channel

    def _on(self, make: Callable[..., Any], method: str) -> Any:
        return make(f"/{SERVICE}/{method}", lambda request: request.SerializeToString(), Answer.FromString)

    def one_to_many(self, method: str) -> Callable[..., grpc.aio.UnaryStreamCall[Any, Answer]]:
        """A call of one request and many answers."""
        call: Callable[..., grpc.aio.UnaryStreamCall[Any, Answer]] = self._on(self._channel.unary_stream, method)
        return call

    def many_to_one(self, method: str) -> Callable[..., grpc.aio.StreamUnaryCall[Any, Answer]]:
        """A call of many requests and one answer."""
        call: Callable[..., grpc.aio.StreamUnaryCall[Any, Answer]] = self._on(self._channel.stream_unary, method)
        return call

    def many_to_many(self, method: str) -> Callable[..., grpc.aio.StreamStreamCall[Any, Answer]]:
        """A call of many requests and many answers."""
        call: Callable[..., grpc.aio.StreamStreamCall[Any, Answer]] = self._on(self._channel.stream_stream, method)
        return call


@pytest.fixture
def servicer() -> Servicer:
    """The servicer that the client calls."""
    return Servicer()


@pytest.fixture
async def client(mesh: Mesh, recorder: Recorder, servicer: Servicer) -> Client:
    """A client of a running server."""
    _, port = await mesh.serve(recorder, servicer.register)
    return Client(await mesh.connect(port, recorder))


async def _codes(recorder: Recorder) -> tuple[object, object]:
    """The statuses of the client's and the server's only spans, once both have ended."""
    await eventually(lambda: len(recorder.spans()) >= 2)
    return code_of(recorder.span(SpanKind.CLIENT)), code_of(recorder.span(SpanKind.SERVER))


@pytest.mark.parametrize(("method", "request_"), [("ShortStream", VALID), ("WrittenStream", Query())])
async def test_a_stream_that_is_read_to_its_end(client: Client, recorder: Recorder, method: str, request_: Any) -> None:
    """Both styles of sending answers end OK, in one trace, measured once."""
    answers = [answer.issuer async for answer in client.one_to_many(method)(request_, timeout=5)]
    assert answers == ["0", "1"]
    assert await _codes(recorder) == ("OK", "OK")
    client_span, server_span = recorder.span(SpanKind.CLIENT), recorder.span(SpanKind.SERVER)
    assert server_span.parent is not None
    assert server_span.parent.span_id == ids_of(client_span).span_id
    assert [point.count for point in recorder.durations("rpc.server.call.duration")] == [1]


async def test_a_stream_that_is_cancelled_half_way(client: Client, servicer: Servicer, recorder: Recorder) -> None:
    """A reader that has seen enough cancels: both spans end as CANCELLED and the servicer stops within 200 ms."""
    call = client.one_to_many("UnaryStream")(Query(), timeout=5)
    async for _answer in call:
        break
    call.cancel()
    await eventually(lambda: servicer.closed and len(recorder.spans()) == 2, 0.2)
    assert await _codes(recorder) == ("CANCELLED", "CANCELLED")
    assert servicer.spans == {ids_of(recorder.span(SpanKind.SERVER)).span_id}


async def test_a_reader_whose_task_is_cancelled(client: Client, servicer: Servicer, recorder: Recorder) -> None:
    """Cancelling the task that reads is the same as cancelling the call."""
    seen = asyncio.Event()

    async def reader() -> None:
        async for _answer in client.one_to_many("UnaryStream")(Query(), timeout=5):
            seen.set()

    task = asyncio.create_task(reader())
    await asyncio.wait_for(seen.wait(), 5)
    task.cancel()
    await eventually(lambda: servicer.closed and len(recorder.spans()) == 2, 0.2)
    assert await _codes(recorder) == ("CANCELLED", "CANCELLED")


async def test_a_stream_whose_sender_waits_for_the_window(
    client: Client, servicer: Servicer, recorder: Recorder
) -> None:
    """A servicer that waits for its slow reader is ended as well when the reader goes."""
    call = client.one_to_many("Flood")(Query(), timeout=5)
    await call.read()
    await asyncio.sleep(0.05)
    call.cancel()
    await eventually(lambda: servicer.closed == ["flood"], 0.5)
    assert await _codes(recorder) == ("CANCELLED", "CANCELLED")


async def test_the_deadline_of_a_stream(client: Client, recorder: Recorder) -> None:
    """A stream that outlasts its deadline ends with DEADLINE_EXCEEDED; at the server it may be the client's end of it.

    On a busy machine the client's reset can overtake the server's own clock, which began when the call arrived.
    """
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in client.one_to_many("UnaryStream")(Query(), timeout=0.1)]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    at_the_client, at_the_server = await _codes(recorder)
    assert at_the_client == "DEADLINE_EXCEEDED"
    assert at_the_server in {"DEADLINE_EXCEEDED", "CANCELLED"}


async def test_streams_are_bound_by_the_current_deadline_only(client: Client, recorder: Recorder) -> None:
    """Without a timeout a stream lasts until it is cancelled, or as long as the work that it belongs to."""
    call = client.one_to_many("UnaryStream")(Query())
    assert call.time_remaining() is None
    call.cancel()
    with deadline.deadline_scope(3.0):
        call = client.one_to_many("UnaryStream")(Query())
    assert (call.time_remaining() or 0) <= 3.0
    call.cancel()
    await eventually(lambda: len(recorder.spans(SpanKind.CLIENT)) == 2)


async def test_a_stream_that_fails_half_way(client: Client, recorder: Recorder) -> None:
    """A refusal after some answers carries its reason like any other."""
    call = client.one_to_many("FailingStream")(Query(), timeout=5)
    first = await call.read()
    assert isinstance(first, Answer)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = status.error_from_rpc(caught.value, "test")
    assert isinstance(error, errors.StorageUnavailable)
    assert error.detail == "disk is full"
    assert await _codes(recorder) == ("UNAVAILABLE", "UNAVAILABLE")
    assert recorder.span(SpanKind.SERVER).status.status_code is StatusCode.ERROR


async def test_a_stream_refused_before_it_starts(client: Client, recorder: Recorder) -> None:
    """A request that breaks the contract is refused before the first answer."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in client.one_to_many("ShortStream")(Checked(), timeout=5)]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await _codes(recorder) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


@pytest.mark.parametrize(("method", "expected"), [("StreamUnary", "3"), ("ReadUnary", "3 ipv4")])
async def test_many_requests(client: Client, recorder: Recorder, method: str, expected: str) -> None:
    """Both styles of reading requests end OK."""
    answer = await client.many_to_one(method)(iter([VALID] * 3), timeout=5)
    assert answer.issuer == expected
    assert await _codes(recorder) == ("OK", "OK")


@pytest.mark.parametrize("method", ["StreamUnary", "ReadUnary"])
async def test_each_request_is_validated(client: Client, recorder: Recorder, method: str) -> None:
    """A later message that breaks the contract is refused, whichever way it is read."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.many_to_one(method)(iter([VALID, Checked(workspace="w")]), timeout=5)
    assert status.error_from_rpc(caught.value, "test").metadata["field"] == "key"
    assert await _codes(recorder) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


async def test_a_conversation(client: Client, recorder: Recorder) -> None:
    """Requests and answers in turn, ended by the caller."""
    call = client.many_to_many("StreamStream")(timeout=5)
    for _turn in range(3):
        await call.write(VALID)
        answer = await call.read()
        assert isinstance(answer, Answer)
        assert answer.issuer == "w"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await _codes(recorder) == ("OK", "OK")


async def test_a_conversation_that_is_broken_off(client: Client, recorder: Recorder) -> None:
    """A caller that goes away between two turns is seen as CANCELLED."""
    call = client.many_to_many("StreamStream")(timeout=5)
    await call.write(VALID)
    await call.read()
    call.cancel()
    assert await _codes(recorder) == ("CANCELLED", "CANCELLED")


async def test_a_closing_channel_ends_its_streams(mesh: Mesh, recorder: Recorder, servicer: Servicer) -> None:
    """Streams that nobody reads any more end with the channel."""
    _, port = await mesh.serve(recorder, servicer.register)
    channel = await mesh.connect(port, recorder)
    call = Client(channel).one_to_many("UnaryStream")(Query())
    await call.read()
    await channel.close()
    assert await _codes(recorder) == ("CANCELLED", "CANCELLED")


async def test_servicers_are_asynchronous(mesh: Mesh, recorder: Recorder) -> None:
    """A blocking method is a mistake that its first call shows, not one that stops the event loop under load."""

    def blocking(_request: Query, _context: Any) -> Answer:
        raise AssertionError

    handler = grpc.unary_unary_rpc_method_handler(blocking, Query.FromString, Answer.SerializeToString)
    generic = grpc.method_handlers_generic_handler(SERVICE, {"Blocking": handler})
    _, port = await mesh.serve(recorder, lambda server: server.add_generic_rpc_handlers((generic,)))
    channel = await mesh.connect(port, recorder)
    call: grpc.aio.UnaryUnaryMultiCallable[Query, Answer] = channel.unary_unary(
        f"/{SERVICE}/Blocking", Query.SerializeToString, Answer.FromString
    )
    with capture_logs(), pytest.raises(grpc.aio.AioRpcError):
        await call(Query(), timeout=5)
