"""Server streams over HTTP, through the real edge, from a real gRPC server: lines or events, and how they end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.trace import SpanKind

from gateway.admission import Admission
from gateway.http.router import Router
from gateway.http.server import HttpServer
from gateway.sources import Sources
from gateway.transcode import stream as streams
from gateway.transcode.access import Guard
from gateway.transcode.calls import over_channel
from gateway.transcode.stream import wants_events
from gateway.transcode.transcoder import Transcoder
from mesh.errors import ClewError, Overloaded
from mesh.jwt import IssuerVerifiers
from tests.gateway.http.raw import Client, get
from tests.gateway.transcode.library import library, message
from tests.mesh.rpc import Recorder, eventually, running_mesh

WATCH = "/v1/shelves/s/books:watch"


@dataclass
class Watch:
    """What the servicer does: send so many books, wait for the gate, then end or fail."""

    titles: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: ClewError | None = None
    running: int = 0
    metadata: list[dict[str, str]] = field(default_factory=list)

    async def serve(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The rpc."""
        self.running += 1
        self.metadata.append(dict(context.invocation_metadata()))
        try:
            for title in self.titles:
                yield message("Book")(title=title, name=request.shelf)
            await self.gate.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        handler = grpc.unary_stream_rpc_method_handler(
            self.serve,
            request_deserializer=message("ListBooksRequest").FromString,
            response_serializer=message("Book").SerializeToString,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("library.v1.Library", {"WatchBooks": handler})]
        )


@dataclass
class Site:
    """The running pieces."""

    watch: Watch
    server: HttpServer
    port: int
    recorder: Recorder

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the edge."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10) as client:
            yield client

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Client]:
        """A connection that sends bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """The library behind an edge."""
    watch, recorder = Watch(), Recorder()
    async with running_mesh() as mesh:
        _, port = await mesh.serve(Recorder(), watch.register)
        channel = await mesh.connect(port, recorder, "library")
        transcoder = Transcoder(
            Guard(Admission(Sources({}), IssuerVerifiers([]))), recorder.telemetry.tracer, request_seconds=5
        )
        transcoder.add(library(), over_channel(channel, "library"))
        router = Router()
        router.serve_templates(transcoder.find)
        server = HttpServer(router.handle)
        yield Site(watch, server, await server.start("127.0.0.1", 0), recorder)
        watch.gate.set()
        await server.drain(1)
        transcoder.close()
    assert watch.running == 0


async def test_a_stream_is_a_line_a_message(site: Site) -> None:
    """NDJSON: every message on a line of its own, and a body that ends properly."""
    site.watch.titles = ["a", "b\nc"]
    site.watch.gate.set()
    async with site.client() as client:
        answer = await client.get(WATCH)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert [json.loads(line)["title"] for line in answer.text.splitlines()] == ["a", "b\nc"]
        assert (await client.get(WATCH)).status_code == 200, "the connection goes on"


async def test_a_stream_is_events_for_who_asks_for_events(site: Site) -> None:
    """Server-sent events: a `data` line each."""
    site.watch.titles = ["a", "b"]
    site.watch.gate.set()
    async with site.client() as client:
        answer = await client.get(WATCH, headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    *events, rest = answer.text.split("\n\n")
    assert [json.loads(event.removeprefix("data: "))["title"] for event in events] == ["a", "b"]
    assert rest == ""


async def test_messages_come_as_they_are_made(site: Site) -> None:
    """The first message is with the client while the stream goes on."""
    site.watch.titles = ["a"]
    async with site.client() as client, client.stream("GET", WATCH) as answer:
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["title"] == "a"
        site.watch.gate.set()
        assert [line async for line in lines] == []


async def test_a_quiet_stream_has_a_head_soon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client need not wait for the first message to know that it is connected; comments keep events alive."""
    monkeypatch.setattr(streams, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(streams, "KEEPALIVE_SECONDS", 0.01)
    async with site.client() as client, client.stream("GET", WATCH, headers={"accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        pieces = answer.aiter_text()
        assert (await anext(pieces)).startswith(":\n\n")
        site.watch.gate.set()
        assert set("".join([piece async for piece in pieces])) <= set(":\n")


async def test_an_early_refusal_has_its_status(site: Site) -> None:
    """What fails before its first message is a problem like any other."""
    site.watch.error = Overloaded("enough", retry_after_seconds=7)
    site.watch.gate.set()
    async with site.client() as client:
        answer = await client.get(WATCH)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "OVERLOADED"


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_a_late_failure_is_told_and_cuts_the_body_off(site: Site, accept: str) -> None:
    """The last line says what went wrong, and no client can take the stream for complete."""
    site.watch.titles = ["a"]
    site.watch.error = Overloaded("enough")
    site.watch.gate.set()
    seen = bytearray()

    async def read_all(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", WATCH, headers={"accept": accept}) as answer:
            async for piece in answer.aiter_bytes():
                seen.extend(piece)

    async with site.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await read_all(client)
    last = seen.decode().strip().splitlines()[-1]
    problem = json.loads(last.removeprefix("data: "))
    problem = problem if accept != "*/*" else problem["error"]
    assert (problem["code"], problem["status"]) == ("OVERLOADED", 503)
    assert len(problem["trace_id"]) == 32
    assert ("event: error" in seen.decode()) is (accept != "*/*")


async def test_a_client_that_leaves_ends_the_call(site: Site) -> None:
    """The rpc behind is cancelled, and the span says that the client went away."""
    site.watch.titles = ["a"]
    async with site.raw() as client:
        await client.send(get(WATCH))
        await client._reader.readuntil(b'"title"')
        assert site.watch.running == 1
        client.hang_up()
        await eventually(lambda: site.watch.running == 0)
    await eventually(lambda: site.recorder.spans(SpanKind.SERVER))
    (span,) = site.recorder.spans(SpanKind.SERVER)
    assert (span.attributes or {})["http.response.status_code"] == 499
    assert (span.attributes or {})["http.route"] == "/v1/shelves/{shelf}/books:watch"


async def test_a_stop_ends_streams_at_once(site: Site) -> None:
    """A stream might never end by itself: a drain does not wait for it, and its body is cut off."""
    site.watch.titles = ["a"]
    async with site.raw() as client:
        await client.send(get(WATCH))
        await client._reader.readuntil(b'"title"')
        await asyncio.wait_for(site.server.drain(60), 5)
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
    await eventually(lambda: site.watch.running == 0)


async def test_an_old_client_reads_to_the_end_of_the_connection(site: Site) -> None:
    """HTTP/1.0 knows no chunks."""
    site.watch.titles = ["a"]
    site.watch.gate.set()
    async with site.raw() as client:
        await client.send(f"GET {WATCH} HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert json.loads(body)["title"] == "a"


async def test_a_head_request_streams_nothing(site: Site) -> None:
    """HEAD has the head that GET has; the call behind ends, and the connection goes on."""
    async with site.client() as client:
        site.watch.titles = ["a"]
        answer = await client.head(WATCH)
        assert (answer.status_code, answer.content) == (200, b"")
        await eventually(lambda: site.watch.running == 0)
        site.watch.gate.set()
        assert json.loads((await client.get(WATCH)).text)["title"] == "a"


async def test_a_client_that_reads_slowly_slows_the_stream(site: Site) -> None:
    """What is not taken is not fetched: of 30 MB no more than some messages are ever held for the client."""
    site.watch.titles = ["x" * 100_000] * 300
    site.watch.gate.set()
    async with site.raw() as client:
        await client.send(get(WATCH, "Connection: close"))
        await client._reader.readuntil(b'"title"')
        edge: Any = site.server._edge
        (connection,) = edge.connections
        await eventually(lambda: connection._writing_paused)
        assert connection._transport.get_write_buffer_size() < 1_000_000
        total = 0
        while piece := await client._reader.read(1 << 20):
            total += len(piece)
    assert total > 300 * 100_000


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/x-ndjson", False),
        ("text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("application/json, text/event-stream;q=0.5", True),
        ("text/event-stream; q=0", False),
        ("text/event-stream;q=0.0, */*", False),
        ("text/event-stream-x", False),
    ],
)
def test_who_asks_for_events(accept: str | None, expected: bool) -> None:
    """Only a client that names them gets them."""
    assert wants_events(accept) is expected
