"""What a source that sends too much is told, over HTTP."""

import gc
import json
import time

from opentelemetry.metrics import NoOpMeter

from gateway.decode.types import DecodedRequest
from gateway.limits.adaptive import Bounds
from gateway.limits.limiter import Limiter
from gateway.limits.tarpit import Tarpit
from gateway.sources import Source, SourceLimits
from tests.gateway.http.raw import post, serve
from tests.gateway.scripted import SOURCE
from tests.gateway.whole import Whole, request
from tests.mesh.rpc import eventually

SECOND = 1_000_000_000
LIMITED = Source("shop", "web", SOURCE.purposes, SourceLimits(10, 20))


def batch(count: int, key: str = "k1") -> bytes:
    """A batch of good events, with the key in the body."""
    events = [{"type": "track", "event": "Seen", "anonymousId": f"a{number}"} for number in range(count)]
    return json.dumps({"batch": events, "writeKey": key}).encode()


def standing_still(bounds: Bounds | None = None) -> Limiter:
    """A limiter for which no time passes."""
    return Limiter(NoOpMeter("test"), None, bounds, lambda: 5 * SECOND)


async def test_a_limited_source_is_told_what_is_left_with_every_200() -> None:
    """The two fields of the draft stand on the answer, wherever the write key came from."""
    whole = Whole({"k1": LIMITED}, standing_still())
    async with serve(whole.router.handle) as site, site.client() as client:
        for fields, left in (("X-Write-Key: k1", 15), ("X-Other: y", 10)):
            reply = await client.ask(post(batch(5), fields))
            assert reply.status == 200
            assert reply.headers["ratelimit"] == f'"events";r={left};t={-(-(20 - left) // 10)}'
            assert reply.headers["ratelimit-policy"] == '"events";q=20;w=2;qu="events"'


async def test_a_source_without_a_limit_hears_nothing_of_one() -> None:
    """No field is sent that would say nothing."""
    async with serve(Whole().router.handle) as site, site.client() as client:
        reply = await client.ask(post(batch(1)))
        assert reply.status == 200
        assert not {"ratelimit", "ratelimit-policy", "retry-after"} & reply.headers.keys()


async def test_too_much_is_a_429_that_says_when_to_come_again() -> None:
    """An integer Retry-After from 1 to 300, a problem with code and message, the fields, and an open connection."""
    whole = Whole({"k1": LIMITED}, standing_still())
    async with serve(whole.router.handle) as site, site.client() as client:
        assert (await client.ask(post(batch(20), "X-Write-Key: k1"))).status == 200
        for body in (batch(1), batch(20), b"not even read"):
            reply = await client.ask(post(body, "X-Write-Key: k1"))
            assert (reply.status, reply.headers["content-type"]) == (429, "application/problem+json")
            assert 1 <= int(reply.headers["retry-after"]) <= 2
            assert reply.headers["ratelimit"] == '"events";r=0;t=2'
            assert reply.headers["ratelimit-policy"] == '"events";q=20;w=2;qu="events"'
            assert (reply.json["code"], reply.json["scope"]) == ("RATE_LIMITED", "rate")
            assert reply.json["message"] == reply.json["detail"]
    assert len(whole.published()) == 20


async def test_a_refusal_comes_late_and_nobody_else_waits() -> None:
    """The connection that was refused waits for its 429; meanwhile another one is answered, and takes no part in it."""
    other = Source("shop", "other", SOURCE.purposes)
    whole = Whole({"k1": LIMITED, "k2": other}, standing_still(), tarpit=Tarpit(1))
    async with serve(find_direct=whole.router.find_direct) as site, site.client() as noisy, site.client() as quiet:
        assert (await noisy.ask(post(batch(20), "X-Write-Key: k1"))).status == 200
        began = time.monotonic()
        await noisy.send(post(batch(1), "X-Write-Key: k1"))
        assert (await quiet.ask(post(batch(1, "k2"), "X-Write-Key: k2"))).status == 200
        assert whole.tarpit.held == 1
        refused = await noisy.reply()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert time.monotonic() - began >= 0.49
        # The connection is as good as before.
        assert (await noisy.ask(post(batch(1), "X-Write-Key: k1"))).status == 429


async def test_what_is_refused_late_keeps_no_event_in_memory() -> None:
    """While a refusal waits neither the body nor what was decoded from it does."""
    whole = Whole({"k1": LIMITED}, standing_still(), tarpit=Tarpit(1))
    async with serve(find_direct=whole.router.find_direct) as site, site.client() as client:
        assert (await client.ask(post(batch(10), "X-Write-Key: k1"))).status == 200
        gc.collect()
        before = _decoded()
        # Ten are left: it is read before it is refused.
        await client.send(post(batch(15), "X-Write-Key: k1"))
        await eventually(lambda: whole.tarpit.held)
        assert _decoded() <= before
        assert (await client.reply()).status == 429


def _decoded() -> int:
    return sum(isinstance(kept, DecodedRequest) for kept in gc.get_objects())


async def test_a_client_that_leaves_before_its_refusal_costs_nothing() -> None:
    """What is held for it ends without an answer, and its place is free at once."""
    whole = Whole({"k1": LIMITED}, standing_still(), tarpit=Tarpit(1))
    async with serve(find_direct=whole.router.find_direct) as site:
        async with site.client() as client:
            assert (await client.ask(post(batch(20), "X-Write-Key: k1"))).status == 200
            await client.send(post(batch(1), "X-Write-Key: k1"))
            await eventually(lambda: whole.tarpit.held)
        await eventually(lambda: not whole.tarpit.held)
        async with site.client() as client:
            assert (await client.ask(post(b"{}", "X-Write-Key: k1"))).status == 429


async def test_another_source_is_not_affected() -> None:
    """One source's 429 is no other's."""
    other = Source("shop", "other", SOURCE.purposes, SourceLimits(10, 20))
    whole = Whole({"k1": LIMITED, "k2": other}, standing_still())
    await whole.router.handle(request(batch(20)))
    refused = await whole.router.handle(request(batch(1)))
    assert refused.status == 429
    response = await whole.router.handle(request(batch(20, "k2"), x_write_key="k2"))
    assert response.status == 200


async def test_a_stranger_is_told_nothing_of_limits() -> None:
    """An unknown key is a 401 whatever the rates are."""
    whole = Whole({"k1": LIMITED}, standing_still())
    async with serve(whole.router.handle) as site, site.client() as client:
        reply = await client.ask(post(batch(1, "wrong")))
        assert reply.status == 401
        assert "ratelimit" not in reply.headers
