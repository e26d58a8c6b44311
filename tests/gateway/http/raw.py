"""Raw sides of a connection for the tests: a client that sends any bytes, and a transport without a network."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from gateway.http.edge import FindDirect, no_direct
from gateway.http.limits import HttpLimits
from gateway.http.message import Abandon, DirectHandler, Handler, Request, Response, json_response
from gateway.http.message import Reply as SendReply
from gateway.http.server import HttpServer
from mesh.clock import FixedClock


@dataclass
class Reply:
    """A response as it was read off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        return msgspec.json.decode(self.body, type=dict[str, object])


class Client:
    """A client that sends whatever it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, *, head_only: bool = False) -> Reply:
        """Read one response."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)
        line, *fields = head[:-4].decode("latin-1").split("\r\n")
        pairs = (entry.split(": ", 1) for entry in fields)
        headers = {name.lower(): value for name, value in pairs}
        length = 0 if head_only else int(headers.get("content-length", "0"))
        return Reply(int(line.split(" ")[1]), headers, await self._reader.readexactly(length))

    async def ask(self, data: bytes) -> Reply:
        """Send bytes and read one response."""
        await self.send(data)
        return await self.reply()

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self._reader.read(), 5)

    def hang_up(self) -> None:
        """Close, whatever is under way."""
        self.writer.close()


class Site:
    """A running server and the way to it."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connection, closed at the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def until(self, *, connections: int | None = None, in_flight: int | None = None) -> None:
        """Wait for the server's counts to become these."""
        server = self.server
        async with asyncio.timeout(5):
            while not (connections in {None, server.connections} and in_flight in {None, server.in_flight}):  # noqa: ASYNC110
                await asyncio.sleep(0.002)


def seen(request: Request) -> Response:
    """What a handler sees, as JSON."""
    fields = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": list(request.headers),
        "body": request.body.decode("latin-1"),
        "peer": request.peer,
        "received_ns": request.received_ns,
    }
    return json_response(200, fields)


async def echo(request: Request) -> Response:
    """What the handler saw, as JSON."""
    return seen(request)


class DirectEcho(DirectHandler):
    """The same, without a task."""

    def start(self, request: Request, reply: SendReply) -> Abandon:
        """Reply at once."""
        reply(seen(request))
        return lambda: None


@asynccontextmanager
async def serve(
    handler: Handler = echo, limits: HttpLimits | None = None, find_direct: FindDirect = no_direct
) -> AsyncIterator[Site]:
    """A server on a free port, stopped at the end."""
    server = HttpServer(handler, limits, FixedClock(), find_direct=find_direct)
    site = Site(server, await server.start("127.0.0.1", 0))
    try:
        yield site
    finally:
        await server.drain(0.05)
    assert server.connections == 0
    assert server.in_flight == 0


def post(body: bytes, *fields: str, path: str = "/v1/batch") -> bytes:
    """A well-formed POST with a declared length."""
    lines = [f"POST {path} HTTP/1.1", "Host: clew.test", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def get(path: str = "/", *fields: str) -> bytes:
    """A well-formed GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: clew.test", *fields, "", ""]).encode("latin-1")


@dataclass
class FakeTransport(asyncio.Transport):
    """A transport that keeps what is written and never sends it."""

    protocol: asyncio.Protocol
    written: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Only the peer's name."""
        return ("192.0.2.1", 4711) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what would be sent."""
        self.written += data

    def write_eof(self) -> None:
        """Half-close; here the peer answers by closing."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Close; the protocol hears of it later, as with a real one."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        """Close."""
        self.close()

    def pause_reading(self) -> None:
        """Nothing to pause."""

    def resume_reading(self) -> None:
        """Nothing to resume."""


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` in pieces, cut at the places that lie within it."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(edges)]
