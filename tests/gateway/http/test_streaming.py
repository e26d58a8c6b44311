"""Answers that come in pieces: framing, failures, and clients that do not read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.http.limits import HttpLimits
from gateway.http.message import Handler, Request, Response, Stream
from mesh.errors import Overloaded
from tests.gateway.http.raw import get, serve


class Pieces:
    """A stream of some pieces, and then an error if there is one; knows whether it was closed."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces = list(pieces)
        self._error = error
        self.closed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Note it."""
        self.closed.set()


def answering(stream: Stream) -> Handler:
    """A handler that answers with it."""

    async def handle(_: Request) -> Response:
        return Response(200, content_type="text/plain", headers=(("x-own", "1"),), stream=stream)

    return handle


async def test_pieces_are_chunks() -> None:
    """One chunk each, none for an empty piece, and the end after the last; then the connection goes on."""
    stream = Pieces(b"ab", b"", b"c" * 20)
    async with serve(answering(stream)) as site, site.client() as client:
        await client.send(get() + get())
        head, _, rest = (await client._reader.readuntil(b"0\r\n\r\n")).partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert b"content-length" not in head
        assert b"x-own: 1" in head
        assert rest == b"2\r\nab\r\n14\r\n" + b"c" * 20 + b"\r\n0\r\n\r\n"
        # The stream is used up: the second request on the same connection has an empty body.
        assert (await client._reader.readuntil(b"\r\n\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert stream.closed.is_set()


@pytest.mark.parametrize("error", [Overloaded("full"), RuntimeError("a fault")])
async def test_a_failure_cuts_the_body_off(error: Exception) -> None:
    """What was sent stays, and no last chunk says that this was all; the fault itself is not told."""
    stream = Pieces(b"ab", error=error)
    async with serve(answering(stream)) as site, site.client() as client:
        await client.send(get())
        received = await client.rest()
        assert received.endswith(b"2\r\nab\r\n")
        assert b"fault" not in received
    assert stream.closed.is_set()


async def test_a_head_request_gets_no_piece() -> None:
    """And the stream is closed though nothing was taken from it."""
    stream = Pieces(b"ab")
    async with serve(answering(stream)) as site, site.client() as client:
        await client.send(get().replace(b"GET", b"HEAD"))
        reply = await client.reply(head_only=True)
        assert reply.status == 200
        assert (await client.ask(get())).status == 200
    assert stream.closed.is_set()


async def test_a_client_that_never_reads_is_dropped() -> None:
    """A stream waits for its client a bounded time, and then both end."""
    stream = Pieces(*[b"x" * 1_000_000] * 200)
    async with serve(answering(stream), HttpLimits(send_seconds=0.1)) as site, site.client() as client:
        await client.send(get())
        await asyncio.wait_for(stream.closed.wait(), 10)
        await site.until(connections=0)


async def test_a_client_that_asks_for_the_end_gets_it() -> None:
    """`Connection: close` is kept, in chunks as well."""
    async with serve(answering(Pieces(b"ab"))) as site, site.client() as client:
        await client.send(get("/", "Connection: close"))
        received = await client.rest()
        assert b"connection: close" in received
        assert received.endswith(b"2\r\nab\r\n0\r\n\r\n")
