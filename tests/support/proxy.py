"""A proxy for tests: between a client and the edge, it loses, delays and cuts answers, or spreads clients over edges.

    with running_proxy(edge.url) as proxy:
        proxy.next(Close())             # the next answer reaches the proxy and never the client
        Client(key, host=proxy.url)     # the SDK under test

It speaks as much HTTP/1.1 as it must to know when an answer is whole: one request at a time on a connection, bodies
with a Content-Length. Requests reach the edge unchanged, so that what it answers is what it would answer to anybody.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from tests.support.grpc_fixtures import BackgroundLoop

_HOST = "127.0.0.1"
_END_OF_HEAD = b"\r\n\r\n"
_Gone = (asyncio.IncompleteReadError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Close:
    """The answer is swallowed once it is whole, and the connection ended: a load balancer that dies."""


@dataclass(frozen=True, slots=True)
class Hang:
    """The answer is swallowed and the connection stays open until the client gives up: a network that drops packets."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The head and only so many bytes of the body arrive before the connection ends.

    Not within the head: Python's http.client takes the end of the connection for the end of the head, and the SDKs on
    it are content with the 200 in the first line.
    """

    after: int


@dataclass(frozen=True, slots=True)
class Delay:
    """The answer arrives whole, so many seconds late."""

    seconds: float


Fault = Close | Hang | Cut | Delay


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and the edge's answer to it, head and body each; `lost`: the client did not get it whole."""

    request: bytes
    answer: bytes
    lost: bool

    @property
    def status(self) -> int:
        """The status that the edge answered."""
        return int(self.answer[9:12])

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return self.answer.partition(_END_OF_HEAD)[2]


@dataclass(slots=True)
class Proxy:
    """Where it listens, what it does to the next answers, and what it has seen.

    Args:
        upstreams: URLs of the edges. Connections are spread over them in turn; one that refuses is passed over, as a
            balancer does.
        watch: Called with each exchange before the client gets the answer; without it they are kept in `exchanges`.
    """

    upstreams: Sequence[str]
    watch: Callable[[Exchange], None] | None = None
    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    _faults: deque[Fault] = field(default_factory=deque)
    _turn: Iterator[int] = field(default_factory=count)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)
    _failure: BaseException | None = None

    def next(self, *faults: Fault) -> None:
        """What happens to the next answers, one each; later ones pass. From any thread."""
        self._faults.extend(faults)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Proxy"]:
        """Serve on a free port of the loopback interface; at the end every connection is dropped.

        Raises:
            Exception: At the end: what went wrong in here first, `watch` included; never a side that went away.
        """
        server = await asyncio.start_server(self._accept, _HOST, 0)
        self.url = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()
        if self._failure is not None:
            raise self._failure

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._end)

    def _end(self, connection: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        if not connection.cancelled() and self._failure is None:
            self._failure = connection.exception()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await self._connect()
            with closing(up_writer):
                while await self._exchange(reader, writer, up_reader, up_writer):
                    pass
        except _Gone:
            # Either side may go at any time; the other is told by the end of its connection.
            pass
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the edge whose turn it is, or to the next one that takes it."""
        first = next(self._turn)
        for offset in range(len(self.upstreams)):
            target = urlsplit(self.upstreams[(first + offset) % len(self.upstreams)])
            try:
                return await asyncio.open_connection(target.hostname, target.port)
            except OSError:
                continue
        raise ConnectionRefusedError("no edge takes connections")

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        """Carry one request and its answer; whether the connection can carry another."""
        request = await _message(reader)
        up_writer.write(request)
        await up_writer.drain()
        answer = await _message(up_reader)
        fault = self._faults.popleft() if self._faults else None
        (self.watch or self.exchanges.append)(Exchange(request, answer, isinstance(fault, Close | Hang | Cut)))
        match fault:
            case Close():
                return False
            case Hang():
                await reader.read()
                return False
            case Cut(after):
                writer.write(answer[: answer.index(_END_OF_HEAD) + len(_END_OF_HEAD) + after])
                await writer.drain()
                return False
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case None:
                pass
        writer.write(answer)
        await writer.drain()
        return True


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One request or answer, head and body.

    Raises:
        ValueError: Its length is told in a way that this proxy does not read.
    """
    head = await reader.readuntil(_END_OF_HEAD)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"transfer-encoding":
            raise ValueError("the proxy reads bodies with a Content-Length only")
        if name.lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)


@contextmanager
def running_proxy(*upstreams: str) -> Iterator[Proxy]:
    """A proxy on a loop of its own, for tests that block."""
    proxy, background = Proxy(upstreams), BackgroundLoop()
    listening = proxy.listening()
    try:
        background.run(listening.__aenter__())
        yield proxy
    finally:
        try:
            background.run(listening.__aexit__(None, None, None))
        finally:
            background.stop()


__all__ = ["Close", "Cut", "Delay", "Exchange", "Hang", "Proxy", "running_proxy"]
