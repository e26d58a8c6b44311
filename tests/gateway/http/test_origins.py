"""Origins of a source: which pages may send with its keys, over the real edge, as browsers ask."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.admission import Admission
from gateway.collect import Collector
from gateway.http.cors import ANY_ORIGIN, Cors, allows, is_origin_pattern
from gateway.http.router import Router
from gateway.http.server import HttpServer
from gateway.limits.limiter import Limiter
from gateway.limits.tarpit import Tarpit
from gateway.routes.browser import add_browser_routes
from gateway.routes.collect import PATHS, CollectHandler
from gateway.sources import Source, Sources, hash_key
from gateway.stats import Stats
from mesh.jwt import IssuerVerifiers
from tests.gateway.scripted import running_stage

SHOP = "https://shop.example"
SOURCES = {
    hash_key("any"): Source("w", "any", frozenset({2})),
    hash_key("shop"): Source("w", "shop", frozenset({2}), allowed_origins=(SHOP, "https://*.shop.example")),
    hash_key("none"): Source("w", "none", frozenset({2}), allowed_origins=()),
}
EVENT = {"type": "page", "anonymousId": "a"}


@pytest.fixture
async def edge() -> AsyncIterator[httpx.AsyncClient]:
    """The edge, as the gateway serves it, over scripted services."""
    async with running_stage() as stage:
        telemetry = stage.recorder.telemetry
        admission = Admission(Sources(SOURCES), IssuerVerifiers([]))
        collector = Collector(
            admission, Limiter(telemetry.meter), stage.pipeline, Stats(telemetry.meter), request_seconds=5
        )
        router, cors = Router(), Cors()
        for path in PATHS:
            router.add(
                "POST", path, CollectHandler(collector, telemetry.tracer, path, trust_forwarded=False, tarpit=Tarpit())
            )
        add_browser_routes(router, admission.knows)
        server = HttpServer(cors.wrap(router.handle), decorate=cors.decorate)
        port = await server.start("127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
        await server.drain(1)


def beacon(key: str) -> bytes:
    """A body as analytics.js sends it: the key stands in it, so that no preflight is needed."""
    return json.dumps({**EVENT, "writeKey": key}).encode()


def in_page(origin: str) -> dict[str, str]:
    """The headers of a simple request out of a page."""
    return {"Origin": origin, "Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("key", "origin", "status"),
    [
        ("any", "https://anywhere.example", 200),
        ("any", "null", 200),
        ("shop", SHOP, 200),
        ("shop", "https://a.b.shop.example", 200),
        ("shop", "https://shop.example:8443", 403),
        ("shop", "http://shop.example", 403),
        ("shop", "https://evilshop.example", 403),
        ("shop", "https://shop.example.evil.example", 403),
        ("shop", "null", 403),
        ("none", SHOP, 403),
    ],
)
async def test_the_page_that_sends_is_checked_on_the_request_itself(
    edge: httpx.AsyncClient, key: str, origin: str, status: int
) -> None:
    """Wherever the key stands: nothing else could stop a beacon, which asks nobody first and reads no answer."""
    in_body = await edge.post("/v1/p", content=beacon(key), headers=in_page(origin))
    in_header = await edge.post("/v1/page", json=EVENT, headers={"Origin": origin, "X-Write-Key": key})
    assert (in_body.status_code, in_header.status_code) == (status, status)


async def test_a_refusal_says_what_to_do_and_can_be_read_in_the_page(edge: httpx.AsyncClient) -> None:
    """A problem with the origin as it was sent, marked for that origin; nothing of the request was kept."""
    refused = await edge.post("/v1/p", content=beacon("shop"), headers=in_page("https://other.example"))
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert problem["origin"] == "https://other.example"
    assert "add the origin" in problem["detail"]
    assert refused.headers["access-control-allow-origin"] == "https://other.example"


@pytest.mark.parametrize("key", ["any", "shop", "none"])
async def test_who_says_no_origin_is_let_in(edge: httpx.AsyncClient, key: str) -> None:
    """Servers and curl have none: origins keep other sites' pages out, and authenticate nobody."""
    assert (await edge.post("/v1/page", json=EVENT, headers={"X-Write-Key": key})).status_code == 200


@pytest.mark.parametrize("path", ["/v1/p", "/v1/batch", "/v1/projects/shop/settings"])
async def test_a_preflight_is_answered_for_every_origin(edge: httpx.AsyncClient, path: str) -> None:
    """It carries no key, so it can only say that asking is allowed; what follows is checked."""
    headers = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    answer = await edge.request("OPTIONS", path, headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://other.example"


@pytest.mark.parametrize(
    ("origin", "status"), [(SHOP, 200), ("https://other.example", 403), ("", 200)], ids=["own", "other", "none"]
)
async def test_a_page_gets_the_settings_of_a_source_that_allows_it(
    edge: httpx.AsyncClient, origin: str, status: int
) -> None:
    """The key stands in the path there: the SDK of another site is told before it sends anything."""
    headers = {"Origin": origin} if origin else {}
    assert (await edge.get("/v1/projects/shop/settings", headers=headers)).status_code == status


async def test_a_wrong_key_is_told_before_a_wrong_origin(edge: httpx.AsyncClient) -> None:
    """No origin belongs to a key that nobody has."""
    assert (await edge.post("/v1/p", content=beacon("wrong"), headers=in_page(SHOP))).status_code == 401


@pytest.mark.parametrize(
    ("patterns", "origin", "allowed"),
    [
        (ANY_ORIGIN, "null", True),
        (("https://shop.example", "*"), "https://x.example", True),
        ((), "https://shop.example", False),
        (("null",), "null", True),
        (("https://*.shop.example",), "https://shop.example", False),
        (("https://*.shop.example",), "https://.shop.example", False),
        (("https://*.shop.example",), "https://evil.example/.shop.example", False),
        (("https://*.shop.example",), "https://evil.example:1.shop.example", False),
        (("https://*.shop.example:8443",), "https://a.shop.example:8443", True),
        (("https://*.shop.example",), "https://A.shop.example", False),
    ],
)
def test_which_origins_a_list_lets_in(patterns: tuple[str, ...], origin: str, allowed: Any) -> None:
    """Exact ones, all hosts below one, or any; never more than what stands there."""
    assert allows(patterns, origin) is allowed


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("https://shop.example", True),
        ("http://localhost:3000", True),
        ("http://[::1]:3000", True),
        ("capacitor://localhost", True),
        ("https://*.shop.example", True),
        ("null", True),
        ("*", True),
        ("https://shop.example/", False),
        ("https://shop.example/path", False),
        ("https://SHOP.example", False),
        ("shop.example", False),
        ("https://*", False),
        ("https://*shop.example", False),
        ("https://a.*.example", False),
        ("", False),
    ],
)
def test_what_may_stand_in_a_list_of_origins(text: str, valid: Any) -> None:
    """What a browser could send, with one wildcard before a host."""
    assert is_origin_pattern(text) is valid
