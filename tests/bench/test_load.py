"""The load generator: what it sends, and that it counts truthfully."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.load import Plan, content_length, drive
from bench.timing import quantile
from bench.traffic import Traffic

Answer = Callable[[int], bytes]


class Edge:
    """An HTTP server that answers as it is told and remembers what it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[Any] = []
        self.heads: list[bytes] = []
        self.connections: set[asyncio.Task[None]] = set()
        self._answer = answer

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task that can be waited for."""
        self.connections.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until either side closes it."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                self.bodies.append(json.loads(await reader.readexactly(content_length(head.rstrip()))))
                answer = self._answer(len(self.bodies))
                if not answer:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def listening(edge: Edge) -> AsyncIterator[int]:
    """Serve on any free port."""
    server = await asyncio.start_server(edge.accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*edge.connections)


def plan(port: int, rate: float = 0.0) -> Plan:
    """A short run with two connections."""
    return Plan("127.0.0.1", port, "key", connections=2, warmup=0.05, duration=0.3, rate=rate)


def answer(status: int = 200, body: bytes = b"{}") -> bytes:
    """A response."""
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


async def test_a_closed_loop_counts_requests_and_events() -> None:
    """Each answer is a request and as many events as the batch; every message id is another, one visitor in ten new."""
    edge = Edge(lambda _: answer())
    async with listening(edge) as port:
        result: dict[str, Any] = await drive(plan(port), Traffic(batch=3, visitors=10, run=1))
    assert result["errors"] == {}
    assert 0 < result["requests"] <= len(edge.bodies)
    assert result["events_per_second"] == pytest.approx(3 * result["requests_per_second"], rel=0.01)
    assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    events = [event for body in edge.bodies for event in body["batch"]]
    assert len({event["messageId"] for event in events}) == len(events) == 3 * len(edge.bodies)
    visitors = {event["anonymousId"] for event in events}
    assert 0.02 * len(events) < len(visitors) < 0.3 * len(events) + 10
    assert edge.heads[0].startswith(b"POST /v1/batch HTTP/1.1\r\n")


async def test_refusals_are_errors() -> None:
    """An answer that is not 200 is counted by its status and measures nothing."""
    async with listening(Edge(lambda _: answer(503))) as port:
        result: dict[str, Any] = await drive(plan(port), Traffic(batch=0, visitors=10, run=1))
    assert result["requests"] == 0
    assert set(result["errors"]) == {"503"}


async def test_a_connection_that_the_server_closes_is_replaced() -> None:
    """The run goes on over a new connection, and the loss is told."""
    async with listening(Edge(lambda count: b"" if count == 5 else answer())) as port:
        result: dict[str, Any] = await drive(plan(port), Traffic(batch=0, visitors=10, run=1))
    assert result["errors"] == {"closed": 1}
    assert result["requests"] > 10


async def test_an_open_loop_keeps_its_rate() -> None:
    """Requests arrive at the wanted rate on average, however fast the answers are."""
    edge = Edge(lambda _: answer())
    async with listening(edge) as port:
        result: dict[str, Any] = await drive(plan(port, rate=400.0), Traffic(batch=0, visitors=10, run=1))
    assert result["errors"] == {}
    assert 70 < len(edge.bodies) < 220


async def test_no_server_is_an_error_and_no_hang() -> None:
    """Nothing to connect to is told, and the run ends in time."""
    async with listening(Edge(lambda _: answer())) as port:
        pass
    result: dict[str, Any] = await drive(plan(port), Traffic(batch=0, visitors=10, run=1))
    assert result["errors"] == {"ConnectionRefusedError": 2}


def test_quantiles() -> None:
    """The share counts from below; of nothing it is 0."""
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert quantile([1.0], 0.99) == 1.0
    assert quantile([], 0.5) == 0.0
