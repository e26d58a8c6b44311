"""The relay: what is cut is late, not lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from tests.support.relay import CUT, CUT_ANSWERS, HOST, MEND, Relay, Relays, obey

_SOON = 5.0
_NOTHING = 0.3


@asynccontextmanager
async def _echo() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each line with itself; its port, and the lines that have reached it."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while line := await reader.readline():
                heard.append(line)
                writer.write(line)

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def _relayed(target: int) -> AsyncIterator[Relay]:
    relay = Relay(target)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def _line(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readline(), _SOON)


async def test_what_is_said_reaches_both_sides() -> None:
    """Nothing is cut: a line goes there and comes back."""
    async with _echo() as (port, _), _relayed(port) as relay:
        reader, writer = await asyncio.open_connection(HOST, relay.port)
        writer.write(b"a\n")
        assert await _line(reader) == b"a\n"
        writer.close()


async def test_a_request_that_is_held_back_arrives_after_its_sender_has_gone() -> None:
    """While cut nothing reaches the server; afterwards all does, although nobody waits for the answer."""
    async with _echo() as (port, heard), _relayed(port) as relay:
        reader, writer = await asyncio.open_connection(HOST, relay.port)
        writer.write(b"a\n")
        await _line(reader)
        obey(relay, CUT)
        writer.write(b"b\n")
        await writer.drain()
        writer.close()
        await asyncio.sleep(_NOTHING)
        assert heard == [b"a\n"]
        obey(relay, MEND)
        async with asyncio.timeout(_SOON):
            while heard != [b"a\n", b"b\n"]:  # noqa: ASYNC110 - the other side hears it
                await asyncio.sleep(0.01)


async def test_where_answers_are_cut_requests_are_carried_out() -> None:
    """The server hears and answers; the client is told once the way back is mended."""
    async with _echo() as (port, heard), _relayed(port) as relay:
        reader, writer = await asyncio.open_connection(HOST, relay.port)
        obey(relay, CUT_ANSWERS)
        writer.write(b"a\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), _NOTHING)
        assert heard == [b"a\n"]
        obey(relay, MEND)
        assert await _line(reader) == b"a\n"
        writer.close()


async def test_a_server_that_is_gone_ends_the_connection() -> None:
    """Whoever connects is told by the end, at once."""
    async with _echo() as (port, _):
        pass
    async with _relayed(port) as relay:
        reader, writer = await asyncio.open_connection(HOST, relay.port)
        with closing(writer):
            assert await _line(reader) == b""


async def test_relays_in_a_process_of_their_own_obey() -> None:
    """Each has its port, and an order is carried out when `order` returns."""
    async with _echo() as (first, _), _echo() as (second, heard):
        relays = Relays([first, second])
        await relays.start()
        try:
            await relays.order(CUT, 1)
            reader, writer = await asyncio.open_connection(HOST, relays.ports[1])
            writer.write(b"a\n")
            await asyncio.sleep(_NOTHING)
            assert heard == []
            await relays.order(MEND, 1)
            assert await _line(reader) == b"a\n"
            writer.close()
        finally:
            await relays.stop()
