"""Many calls over one stream, between real servers and channels: each is a call with an end of its own."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from clew.enrich.v1 import enrich_service_pb2 as enrich
from clew.enrich.v1.enrich_service_pb2_grpc import EnrichServiceServicer, add_EnrichServiceServicer_to_server
from clew.enrich.v1.enrichment_pb2 import Client, Enrichment
from clew.stream.v1.call_pb2 import Call
from mesh import deadline, errors
from mesh.interceptors.client import TracedChannel
from mesh.server import GrpcServer
from mesh.streams.client import StreamedCalls, _Stream
from mesh.streams.server import MOST_RUNNING, StreamOf
from tests.mesh.rpc import Mesh, Recorder, code_of, eventually, ids_of

SERVICE = "clew.enrich.v1.EnrichService"
PATH = f"{SERVICE}/StreamEnrichEvents"
METHOD = f"{SERVICE}/BatchEnrichEvents"
Request = enrich.BatchEnrichEventsRequest
Response = enrich.BatchEnrichEventsResponse
Calls = StreamedCalls[Request, Response]


def ask(name: str) -> Request:
    """A request of one item."""
    return Request(items=[enrich.EnrichmentQuery(user_agent=name)])


def answer_of(response: Response) -> str:
    """What an `Echo` answered."""
    return response.results[0].client.browser


class Echo(EnrichServiceServicer):
    """Answers with what it was asked, after whatever a test wants it to do before."""

    def __init__(self) -> None:
        self.before: Callable[[str], Awaitable[None]] = self.nothing
        self.asked: list[str] = []
        self.cancelled: list[str] = []

    async def nothing(self, name: str) -> None:
        """Answer at once."""

    async def BatchEnrichEvents(self, request: Request, context: Any) -> Response:  # noqa: ARG002, N802 - the contract's
        """Answer."""
        name = request.items[0].user_agent
        self.asked.append(name)
        try:
            await self.before(name)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return Response(results=[Enrichment(client=Client(browser=name))])

    StreamEnrichEvents = StreamOf(BatchEnrichEvents, enrich.StreamEnrichEventsResponse)  # type: ignore[assignment]


class Line:
    """A server with an `Echo`, a channel to it, and the calls over it."""

    def __init__(self, echo: Echo, server: GrpcServer, channel: TracedChannel, recorder: Recorder) -> None:
        self.echo = echo
        self.server = server
        self.channel = channel
        self.recorder = recorder
        self.calls: Calls = channel.calls(
            PATH, "BatchEnrichEvents", enrich.StreamEnrichEventsRequest, enrich.StreamEnrichEventsResponse
        )

    async def call(self, name: str, seconds: float = 5.0) -> str:
        """Make one call."""
        return answer_of(await self.calls(ask(name), timeout=seconds))

    def start(self, name: str, seconds: float = 5.0) -> "asyncio.Task[str]":
        """Begin one call."""
        return asyncio.create_task(self.call(name, seconds))


@pytest.fixture
async def line(mesh: Mesh) -> Line:
    """A line whose server and client keep spans in one place."""
    echo, recorder = Echo(), Recorder()
    server, port = await mesh.serve(recorder, lambda server: add_EnrichServiceServicer_to_server(echo, server))
    return Line(echo, server, await mesh.connect(port, recorder, "enrich"), recorder)


def gate_for(echo: Echo, held: str) -> asyncio.Event:
    """Hold the calls of that name until the event is set."""
    gate = asyncio.Event()

    async def hold(name: str) -> None:
        if name == held:
            await gate.wait()

    echo.before = hold
    return gate


async def test_an_answer_may_overtake_that_of_an_earlier_call(line: Line) -> None:
    """Calls do not wait for each other, and each gets its own answer."""
    gate = gate_for(line.echo, "slow")
    slow = line.start("slow")
    await eventually(lambda: line.echo.asked == ["slow"])
    assert await line.call("quick") == "quick"
    gate.set()
    assert await slow == "slow"


async def test_a_call_is_observed_as_one_of_the_batch_rpc(line: Line) -> None:
    """Both sides have a span of the batch rpc's name, in one trace, and a measurement; the stream itself has none."""
    await line.call("a")
    client, server = line.recorder.span(SpanKind.CLIENT), line.recorder.span(SpanKind.SERVER)
    assert (client.name, server.name) == (METHOD, METHOD)
    assert server.parent is not None
    assert server.parent.span_id == ids_of(client).span_id
    assert ids_of(server).trace_id == ids_of(client).trace_id
    assert (code_of(client), code_of(server)) == ("OK", "OK")
    (point,) = line.recorder.durations("rpc.server.call.duration")
    assert point.count == 1


async def test_the_deadline_goes_with_the_call(line: Line) -> None:
    """The servicer knows how much time is left; when it is over, both sides end, and the stream goes on."""
    seen: list[float | None] = []

    async def note(name: str) -> None:
        seen.append(deadline.left())
        if name == "slow":
            await asyncio.sleep(30)

    line.echo.before = note
    with pytest.raises(errors.DeadlineExceeded):
        await line.call("slow", 0.2)
    await eventually(lambda: len(line.recorder.spans()) == 2)
    assert {code_of(span) for span in line.recorder.spans()} == {"DEADLINE_EXCEEDED"}
    assert line.echo.cancelled == ["slow"]
    assert await line.call("next") == "next"
    assert seen[0] is not None
    assert 0 < seen[0] <= 0.2


async def test_no_call_is_made_when_no_time_is_left(line: Line) -> None:
    """A deadline that has passed is noticed before anything is sent."""
    with deadline.deadline_scope(-1.0), pytest.raises(errors.DeadlineExceeded):
        await line.call("late")
    assert line.echo.asked == []


async def test_a_caller_that_goes_away_is_cancelled_downstream(line: Line) -> None:
    """Cancelling the task that calls cancels the servicer; other calls and the stream are not touched."""
    gate = gate_for(line.echo, "gone")
    gone = line.start("gone")
    await eventually(lambda: line.echo.asked == ["gone"])
    gone.cancel()
    await eventually(lambda: line.echo.cancelled == ["gone"])
    await eventually(lambda: len(line.recorder.spans()) == 2)
    assert {code_of(span) for span in line.recorder.spans()} == {"CANCELLED"}
    assert await line.call("next") == "next"
    gate.set()


async def test_a_refusal_arrives_as_it_was_raised(line: Line) -> None:
    """Reason, detail and metadata are the servicer's; the status is the table's; the stream goes on."""

    async def refuse(name: str) -> None:
        if name == "bad":
            raise errors.StorageUnavailable("disk is full", retry_after_seconds="7")

    line.echo.before = refuse
    with pytest.raises(errors.StorageUnavailable, match="disk is full") as caught:
        await line.call("bad")
    assert caught.value.metadata == {"retry_after_seconds": "7"}
    assert {code_of(span) for span in line.recorder.spans()} == {"UNAVAILABLE"}
    assert await line.call("next") == "next"


async def test_what_breaks_the_contract_never_reaches_the_servicer(line: Line) -> None:
    """A batch is validated as that of a unary call is; the refusal names field and rule."""
    with pytest.raises(errors.InvalidArgument) as caught:
        await line.calls(Request(), timeout=5.0)
    assert caught.value.metadata["field"] == "items"
    assert line.echo.asked == []
    assert await line.call("next") == "next"


async def test_a_fault_of_the_servicer_is_logged_and_not_told(line: Line) -> None:
    """The caller learns that it was internal; the text of what was raised goes to the log only."""

    async def fail(_name: str) -> None:
        raise ValueError("a secret")

    line.echo.before = fail
    with capture_logs() as logs, pytest.raises(errors.Internal) as caught:
        await line.call("bad")
    assert "secret" not in str(caught.value)
    assert [entry["error"] for entry in logs if entry["event"] == "unexpected_error"] == ["ValueError"]


async def test_a_stream_that_breaks_fails_its_calls_and_is_replaced(mesh: Mesh, line: Line) -> None:
    """Who waits is told that the service is unavailable; the next call opens another stream."""
    gate_for(line.echo, "held")
    held = line.start("held")
    await eventually(lambda: line.echo.asked == ["held"])
    stream = line.calls._stream
    assert stream is not None
    stream._stream.cancel()
    with pytest.raises(errors.UpstreamUnavailable):
        await held
    await eventually(lambda: line.echo.cancelled == ["held"])
    assert await line.call("next") == "next"


class Breaking:
    """A stream that gRPC ends with a status before it has read anything."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    async def write(self, message: bytes) -> None:
        """Take it; nobody gets it."""

    async def read(self) -> Any:
        """Fail."""
        raise grpc.aio.AioRpcError(self._code, grpc.aio.Metadata(), grpc.aio.Metadata())


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED])
async def test_however_the_transport_ends_a_stream_its_calls_may_be_repeated(code: grpc.StatusCode) -> None:
    """What gRPC makes of a connection that breaks in the middle of a message is no fault of the call."""
    outcome = await _Stream(Breaking(code), "enrich").call(1, b"", 5.0)
    assert isinstance(outcome, errors.UpstreamUnavailable)


async def test_a_server_that_is_away_is_unavailable(line: Line) -> None:
    """Without a server a call fails at once, and with a reason that says to come back."""
    assert await line.call("a") == "a"
    await line.server.server.stop(None)
    with pytest.raises(errors.UpstreamUnavailable):
        await line.call("b")


async def test_a_server_that_drains_answers_what_it_took(line: Line) -> None:
    """Its clients begin no more calls on the open streams, so that the drain ends with the last answer."""
    gate = gate_for(line.echo, "held")
    held = line.start("held")
    await eventually(lambda: line.echo.asked == ["held"])
    draining = asyncio.create_task(line.server.drain())
    stream = line.calls._stream
    await eventually(lambda: stream is not None and not stream.takes_calls)
    gate.set()
    assert await held == "held"
    async with asyncio.timeout(3):
        await draining


async def test_a_stream_takes_a_bounded_number_of_calls(line: Line) -> None:
    """What would pile up is refused; what was taken is answered."""
    gate = asyncio.Event()

    async def wait(_name: str) -> None:
        await gate.wait()

    line.echo.before = wait
    calls = [line.start(f"{number}") for number in range(MOST_RUNNING + 1)]
    await eventually(lambda: any(call.done() for call in calls))
    gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results].count(errors.Overloaded) == 1


@pytest.mark.parametrize(
    "message", [b"", b"\xff\xff", enrich.StreamEnrichEventsRequest(batch=ask("a")).SerializeToString()]
)
async def test_a_message_that_is_no_call_ends_the_stream(line: Line, message: bytes) -> None:
    """Nothing that follows it could be trusted: INVALID_ARGUMENT, and the servicer hears of nothing."""
    stream: Any = line.channel._inner.stream_stream(f"/{PATH}")()
    await stream.write(message)
    assert await stream.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert line.echo.asked == []


async def test_an_id_that_is_taken_ends_the_stream(line: Line) -> None:
    """Two calls of one id could not be told apart, nor counted: the second ends the stream, and the first with it."""
    gate_for(line.echo, "slow")
    stream: Any = line.channel._inner.stream_stream(f"/{PATH}")()
    message = enrich.StreamEnrichEventsRequest(call=Call(id=7), batch=ask("slow")).SerializeToString()
    await stream.write(message)
    await stream.write(message)
    assert await stream.code() == grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: line.echo.cancelled == ["slow"])
    assert line.echo.asked == ["slow"]


async def test_a_refused_call_leaves_nothing_in_memory(line: Line) -> None:
    """Neither the request nor the error waits for a garbage collection."""

    class Traced(errors.StorageUnavailable):
        """An error that a weak reference can be made to."""

    async def refuse(_name: str) -> None:
        raise Traced("no")

    async def attempt() -> "weakref.ref[BaseException]":
        try:
            await line.call("bad")
        except errors.StorageUnavailable as error:
            return weakref.ref(error)
        raise AssertionError("it was not refused")

    line.echo.before = refuse
    gc.disable()
    try:
        reference = await attempt()
        assert reference() is None
    finally:
        gc.enable()
