"""Stopping: what runs is finished, what waits is told, nothing new begins."""

import asyncio
import time

import pytest

from gateway.http.limits import HttpLimits
from gateway.http.message import Request, Response
from tests.gateway.http.raw import get, post, serve


async def test_running_requests_finish_and_their_connections_close() -> None:
    """A request that runs when the drain begins is answered, with Connection: close."""
    release = asyncio.Event()

    async def handler(_: Request) -> Response:
        await release.wait()
        return Response(200)

    async with serve(handler) as site, site.client() as client:
        await client.send(get())
        await site.until(in_flight=1)
        drain = asyncio.create_task(site.server.drain(5))
        await asyncio.sleep(0.02)
        assert not drain.done()
        release.set()
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await client.rest() == b""
        client.hang_up()
        await drain


async def test_idle_connections_close_at_once_and_new_ones_are_refused() -> None:
    """Nothing waits for a client that has nothing under way, and nobody can connect any more."""
    async with serve() as site, site.client() as client:
        assert (await client.ask(get())).status == 200
        began = time.monotonic()
        await site.server.drain(5)
        assert time.monotonic() - began < 1
        assert await client.rest() == b""
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", site.port)


async def test_what_does_not_finish_in_time_is_answered_503() -> None:
    """When the time is up a running handler is cancelled, and its client is told to send again; so is one mid-body."""
    cancelled = asyncio.Event()

    async def handler(_: Request) -> Response:
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.set()
        return Response(200)

    limits = HttpLimits(linger_seconds=0.2)
    async with serve(handler, limits) as site, site.client() as running, site.client() as sending:
        await running.send(post(b"{}"))
        await sending.send(post(b"{}")[:-1])
        await site.until(in_flight=1)
        drain = asyncio.create_task(site.server.drain(0.1))
        for client in (running, sending):
            reply = await client.reply()
            assert (reply.status, reply.json["code"]) == (503, "DRAINING")
            assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
        await drain
        assert cancelled.is_set()


async def test_a_request_that_is_under_way_may_still_arrive() -> None:
    """A body whose head came before the drain is read to its end and answered."""
    async with serve() as site, site.client() as client:
        request = post(b"abc")
        await client.send(request[:-1])
        await site.until(connections=1)
        await asyncio.sleep(0.02)
        drain = asyncio.create_task(site.server.drain(5))
        await asyncio.sleep(0.02)
        reply = await client.ask(request[-1:])
        assert (reply.json["body"], reply.headers["connection"]) == ("abc", "close")
        client.hang_up()
        await drain


async def test_draining_twice_is_harmless() -> None:
    """A second drain finds nothing to do."""
    async with serve() as site:
        await site.server.drain(1)
        await site.server.drain(1)
