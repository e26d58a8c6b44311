"""Every limit of the edge: size, time, number. Each is met exactly, and exceeded by one."""

import asyncio
import time
from contextlib import suppress

import pytest

from gateway.http.limits import HttpLimits
from gateway.http.message import Request, Response
from tests.gateway.http.raw import get, post, serve

_QUICK = HttpLimits(
    header_seconds=0.15, body_seconds=0.15, body_bytes_per_second=1000, body_total_seconds=0.5, linger_seconds=0.2
)


def _head_of(size: int) -> bytes:
    frame = get("/", "X-Pad: ")
    return get("/", "X-Pad: " + "x" * (size - len(frame)))


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 400)])
@pytest.mark.parametrize("piece", [1, 100, 2000])
async def test_the_head_is_bounded_in_bytes(size: int, status: int, piece: int) -> None:
    """A head of exactly the limit passes and one byte more does not, however it is cut."""
    head = _head_of(size)
    async with serve(limits=HttpLimits(header_bytes=1000)) as site, site.client() as client:
        for start in range(0, size, piece):
            client.writer.write(head[start : start + piece])
            await asyncio.sleep(0)
        assert (await client.reply()).status == status


async def test_an_endless_head_is_refused_before_it_ends() -> None:
    """The limit holds for a head whose end never comes."""
    async with serve(limits=HttpLimits(header_bytes=1000)) as site, site.client() as client:
        assert (await client.ask(_head_of(1200)[:1100])).status == 400


@pytest.mark.parametrize(("count", "status"), [(10, 200), (11, 400)])
async def test_the_head_is_bounded_in_fields(count: int, status: int) -> None:
    """Host counts too."""
    fields = [f"X-{index}: y" for index in range(count - 1)]
    async with serve(limits=HttpLimits(header_count=10)) as site, site.client() as client:
        reply = await client.ask(get("/", *fields))
        assert reply.status == status
        if status == 400:
            assert reply.json["limit_fields"] == "10"


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
async def test_a_sized_body_is_bounded(size: int, status: int) -> None:
    """A declared length above the limit is refused before the body is read."""
    async with serve(limits=HttpLimits(body_bytes=1000)) as site, site.client() as client:
        reply = await client.ask(post(b"x" * size))
        assert reply.status == status
        if status == 413:
            assert (reply.json["code"], reply.json["limit_bytes"]) == ("BODY_TOO_LARGE", "1000")
            assert await client.rest() == b""


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
async def test_a_body_in_chunks_is_bounded(size: int, status: int) -> None:
    """The sizes of the chunks are added up, and the one that exceeds the limit is not waited for."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    second = b"%x\r\n" % (size - 500)
    async with serve(limits=HttpLimits(body_bytes=1000)) as site, site.client() as client:
        await client.send(head + first + second)
        if status == 200:
            await client.send(b"x" * (size - 500) + b"\r\n0\r\n\r\n")
        assert (await client.reply()).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"1\r\nx\r\n" * 11 + b"0\r\n\r\n", 413),
        (b"1;" + b"e" * 600 + b"\r\nx\r\n0\r\n\r\n", 400),
        (b"1;" + b"e" * 300 + b"\r\nx\r\n1;" + b"e" * 300 + b"\r\nx\r\n0\r\n\r\n", 400),
        (b"0\r\n" + b"a: b\r\n" * 100 + b"\r\n", 400),
        (b"1;" + b"e" * 2000, 400),
    ],
    ids=["chunks", "one extension", "all extensions", "trailers", "an endless line"],
)
async def test_the_framing_of_chunks_is_bounded(body: bytes, status: int) -> None:
    """Tiny chunks, extensions and trailers carry nothing, so there may be only so much of them."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serve(limits=HttpLimits(chunk_count=10, header_bytes=500)) as site, site.client() as client:
        assert (await client.ask(head + body)).status == status


async def test_a_slow_head_is_cut_off() -> None:
    """A client that drips its head is answered 408 when the time is up, though bytes keep coming."""
    async with serve(limits=_QUICK) as site, site.client() as client:
        began = time.monotonic()
        drip = asyncio.create_task(_drip(client.writer, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000))
        reply = await client.reply()
        drip.cancel()
        assert (reply.status, reply.json["code"]) == (408, "REQUEST_TIMEOUT")
        assert 0.14 < time.monotonic() - began < 1


async def test_a_slow_body_is_cut_off() -> None:
    """A client that drips its body below the slowest rate is answered 408."""
    async with serve(limits=_QUICK) as site, site.client() as client:
        began = time.monotonic()
        drip = asyncio.create_task(_drip(client.writer, post(b"x" * 1000), at_once=100))
        reply = await client.reply()
        drip.cancel()
        assert (reply.status, reply.json["code"]) == (408, "REQUEST_TIMEOUT")
        assert 0.14 < time.monotonic() - began < 1


async def test_a_body_that_keeps_the_rate_earns_its_time() -> None:
    """A body may take longer than the first allowance as long as it keeps coming."""
    limits = HttpLimits(body_seconds=0.3, body_bytes_per_second=200)
    async with serve(limits=limits) as site, site.client() as client:
        began = time.monotonic()
        request = post(b"x" * 600)
        for start in range(0, len(request), 100):
            await client.send(request[start : start + 100])
            await asyncio.sleep(0.07)
        assert (await client.reply()).status == 200
        assert time.monotonic() - began > 0.4


async def test_no_body_may_take_for_ever() -> None:
    """However well it keeps the rate, a body has a last moment."""
    limits = HttpLimits(body_seconds=0.1, body_bytes_per_second=1, body_total_seconds=0.3)
    async with serve(limits=limits) as site, site.client() as client:
        began = time.monotonic()
        drip = asyncio.create_task(_drip(client.writer, post(b"x" * 1000), at_once=100))
        assert (await client.reply()).status == 408
        drip.cancel()
        assert 0.29 < time.monotonic() - began < 1


@pytest.mark.parametrize("first", [b"", get()], ids=["before the first request", "between requests"])
async def test_an_idle_connection_is_closed_without_a_word(first: bytes) -> None:
    """Nothing was asked, so nothing is answered."""
    async with serve(limits=HttpLimits(first_seconds=0.1, idle_seconds=0.1)) as site, site.client() as client:
        if first:
            assert (await client.ask(first)).status == 200
        assert await client.rest() == b""


async def test_line_breaks_do_not_keep_an_idle_connection() -> None:
    """Blank lines are ignored, and so is not the time that they take.

    What still drips when the connection closes makes the client's system report a reset instead of an end.
    """
    async with serve(limits=HttpLimits(first_seconds=0.2)) as site, site.client() as client:
        drip = asyncio.create_task(_drip(client.writer, b"\r\n" * 500))
        answer = b""
        with suppress(ConnectionResetError):
            answer = await client.rest()
        assert answer == b""
        drip.cancel()


async def test_a_slow_handler_is_not_timed_out_by_the_edge() -> None:
    """The limits are about what a client does; a handler has its own deadline."""

    async def handler(_: Request) -> Response:
        await asyncio.sleep(0.4)
        return Response(200)

    async with serve(handler, HttpLimits(header_seconds=0.1, idle_seconds=0.1)) as site, site.client() as client:
        assert (await client.ask(get())).status == 200


async def test_a_client_that_reads_nothing_is_dropped() -> None:
    """An answer that nobody takes is given up, with the connection."""

    async def handler(_: Request) -> Response:
        return Response(200, b"x" * 20_000_000)

    async with serve(handler, HttpLimits(send_seconds=0.1)) as site, site.client() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a ReadTransport, which the stub hides
        await client.send(get())
        await site.until(connections=1)
        await site.until(connections=0)


async def test_a_slow_reader_gets_all_and_its_next_answer() -> None:
    """A client that takes its time within the limit holds up only itself."""

    async def handler(request: Request) -> Response:
        return Response(200, request.path.encode() * 1_000_000)

    async with serve(handler) as site, site.client() as client:
        await client.send(get("/long") + get("/next"))
        await asyncio.sleep(0.1)
        assert len((await client.reply()).body) == 5_000_000
        assert len((await client.reply()).body) == 5_000_000


async def test_connections_are_bounded() -> None:
    """One connection too many is answered 503 and closed; a place that becomes free is given again."""
    async with serve(limits=HttpLimits(connections=2)) as site:
        async with site.client(), site.client(), site.client() as third:
            reply = await third.reply()
            assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "OVERLOADED", "1")
            assert await third.rest() == b""
        await site.until(connections=0)
        async with site.client() as client:
            assert (await client.ask(get())).status == 200


async def test_bytes_of_all_bodies_are_bounded_together() -> None:
    """Bodies that are held by running requests count; once those end, there is room again."""
    release = asyncio.Event()

    async def handler(_: Request) -> Response:
        await release.wait()
        return Response(200)

    async with serve(handler, HttpLimits(held_bytes=1500)) as site, site.client() as first:
        await first.send(post(b"x" * 1000))
        await site.until(in_flight=1)
        async with site.client() as second:
            assert (await second.ask(post(b"x" * 1000))).status == 503
        async with site.client() as third:
            await third.send(post(b"x" * 1000)[:-1])
            assert (await third.reply()).status == 503
        release.set()
        assert (await first.reply()).status == 200
        assert (await first.ask(post(b"x" * 1000))).status == 200


async def test_a_hang_up_gives_its_bytes_back() -> None:
    """What a client held when it went away is free again, in the middle of a body as while it is answered."""

    async def handler(request: Request) -> Response:
        await asyncio.sleep(30 if request.path == "/slow" else 0)
        return Response(200)

    async with serve(handler, HttpLimits(held_bytes=1500)) as site:
        for request in (post(b"x" * 1000, path="/slow"), post(b"x" * 1000)[:-1]):
            async with site.client() as client:
                await client.send(request)
                await site.until(connections=1)
                await asyncio.sleep(0.02)
            await site.until(connections=0, in_flight=0)
        async with site.client() as client:
            assert (await client.ask(post(b"x" * 1000))).status == 200


async def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    """Bytes that come after a refusal are thrown away for a while: closing on them at once would reset the answer."""
    async with serve(limits=HttpLimits(body_bytes=1000)) as site, site.client() as client:
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        assert (await client.reply()).status == 413
        assert await client.rest() == b""


async def _drip(writer: asyncio.StreamWriter, data: bytes, at_once: int = 1) -> None:
    writer.write(data[:at_once])
    for index in range(at_once, len(data)):
        await asyncio.sleep(0.01)
        writer.write(data[index : index + 1])
