"""What browsers, schema clients and probes find beside the data path."""

import asyncio
import base64
import json
import re
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from gateway.http.message import Handler, Headers, Request
from gateway.http.router import Router
from gateway.http.server import HttpServer
from gateway.routes.browser import add_browser_routes
from gateway.routes.collect import PATHS
from gateway.routes.docs import add_docs_routes
from gateway.routes.health import add_health_routes
from gateway.routes.registry import add_elsewhere_routes, add_registry_routes, contracts_registry


async def _get(router: Router, path: str, **fields: str) -> httpx.Response:
    handler: Handler = router.handle
    server = HttpServer(handler)
    port = await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        response = await client.get(path, headers={name.replace("_", "-"): value for name, value in fields.items()})
    await server.drain(1)
    return response


def _browser_router(public_url: str = "") -> Router:
    router = Router()
    add_browser_routes(router, lambda key, _: key == "wk_web", public_url)
    return router


def _segment(settings: dict[str, Any]) -> tuple[str, str, str]:
    segment = settings["integrations"]["Segment.io"]
    return segment["apiKey"], segment["protocol"], segment["apiHost"]


async def test_a_browser_gets_settings_that_point_back_at_us() -> None:
    """The host that was asked is where the SDK sends its events."""
    response = await _get(_browser_router(), "/v1/projects/wk_web/settings", host="events.example:8080")
    assert response.status_code == 200
    assert _segment(response.json()) == ("wk_web", "http", "events.example:8080/v1")
    assert response.headers["cache-control"].startswith("private")


async def test_a_browser_is_sent_nowhere_else() -> None:
    """The SDK loads no destination, and sends no metrics of its own to anybody."""
    settings = (await _get(_browser_router(), "/v1/projects/wk_web/settings")).json()
    assert list(settings["integrations"]) == ["Segment.io"]
    assert settings["remotePlugins"] == []
    assert settings["middlewareSettings"] == {"routingRules": []}
    assert settings["metrics"]["sampleRate"] == 0
    assert "segment." not in str(settings).replace("Segment.io", "")


@pytest.mark.parametrize(
    ("forwarded", "protocol"),
    [("https", "https"), ("http", "http"), ("gopher", "http"), ("https, http", "https"), ("http,https", "http")],
)
async def test_the_scheme_is_the_one_before_the_proxy(forwarded: str, protocol: str) -> None:
    """Behind a proxy that ends TLS, browsers keep to https."""
    response = await _get(_browser_router(), "/v1/projects/wk_web/settings", x_forwarded_proto=forwarded)
    assert _segment(response.json())[1] == protocol


async def test_a_public_url_goes_before_what_was_asked() -> None:
    """Where the gateway's public address is configured, no client can put another one into the answer."""
    router = _browser_router("https://in.example/")
    response = await _get(router, "/v1/projects/wk_web/settings", host="evil.example", x_forwarded_proto="http")
    assert _segment(response.json()) == ("wk_web", "https", "in.example/v1")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/projects/unknown/settings",
        "/v1/projects/wk_web/",
        "/v1/projects/wk_web/settings/x",
        "/v1/projects//settings",
    ],
)
async def test_an_unknown_source_has_no_settings(path: str) -> None:
    """An unknown key is a 404 problem that does not echo it."""
    response = await _get(_browser_router(), path)
    assert (response.status_code, response.json()["code"]) == (404, "ROUTE_NOT_FOUND")
    assert "unknown" not in response.text.replace("/unknown/", "")


async def test_health_is_the_process_and_readiness_what_it_needs() -> None:
    """`/healthz` answers as long as the process runs; `/readyz` says what is missing, and when to ask again."""
    missing: list[str] = ["identity is not serving"]
    router = Router()
    add_health_routes(router, lambda: missing)
    assert (await _get(router, "/healthz")).json() == {"status": "ok"}
    response = await _get(router, "/readyz")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["missing"] == missing
    missing.clear()
    assert (await _get(router, "/readyz")).status_code == 200


async def test_a_stock_client_reads_the_registry_below_its_prefix() -> None:
    """Confluent's own client, pointed at `/registry`, finds a Kafka value's schema by subject and by id."""

    def read(url: str) -> tuple[str | None, str | None]:
        with SchemaRegistryClient({"url": url}) as client:
            latest = client.get_latest_version("clew.events.v1-value")
            assert latest.schema_id is not None
            return latest.schema.schema_type, client.get_schema(latest.schema_id).schema_str

    router = Router()
    add_registry_routes(router, contracts_registry())
    server = HttpServer(router.handle)
    port = await server.start("127.0.0.1", 0)
    kind, text = await asyncio.to_thread(read, f"http://127.0.0.1:{port}/registry")
    await server.drain(1)
    assert kind == "PROTOBUF"
    assert text is not None
    assert "message EnrichedEvent" in text


async def test_the_registry_answers_in_its_clients_words() -> None:
    """An unknown schema is the registry's own error, and no problem of ours; all has the registry's content type."""
    router = Router()
    add_registry_routes(router, contracts_registry())
    unknown = await _get(router, "/registry/schemas/ids/99999?format=serialized")
    text = await _get(router, "/registry/subjects/clew.events.v1-value/versions/latest/schema")
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, 40403)
    assert "message EnrichedEvent" in text.text
    for response in (unknown, text):
        assert response.headers["content-type"] == "application/vnd.schemaregistry.v1+json"


async def test_a_large_schema_stops_nobody_else() -> None:
    """A hundred thousand messages take long to compare, to no end: the loop goes on meanwhile. More is refused."""
    router = Router()
    add_registry_routes(router, contracts_registry())
    descriptor = base64.b64encode(b"\x22\x00" * 100_000).decode()
    path = "/registry/subjects/clew.events.v1-value"

    async def ask(schema: str) -> int:
        body = json.dumps({"schema": schema}).encode()
        return (await router.handle(Request("POST", path, "", Headers([]), body, "", 0))).status

    asking = asyncio.create_task(ask(descriptor))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert await asking == 404
    assert turns > 3
    assert await ask(descriptor * 2) == 413
    largest = max(contracts_registry().table.schemas.values(), key=lambda schema: len(schema.text))
    assert await ask(largest.text) == 404


async def test_a_registry_of_ones_own_takes_our_place() -> None:
    """Ours would give other schemas for the ids of the records: it names the one that gave them, and serves nothing."""
    router = Router()
    add_elsewhere_routes(router, "https://registry.example")
    for path in ("/registry/schemas/ids/13", "/registry/subjects"):
        response = await _get(router, path)
        assert (response.status_code, response.json()["error_code"]) == (404, 404)
        assert "https://registry.example" in response.json()["message"]


async def test_who_opens_the_address_in_a_browser_is_led_on() -> None:
    """A page that says where events go, and links to what there is to see; each link leads somewhere."""
    router = Router()
    add_docs_routes(router)
    add_health_routes(router, list)
    response = await _get(router, "/")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    links = re.findall(r'href="([^"]+)"', response.text)
    assert {"/docs", "/openapi.json", "/asyncapi.json"} <= set(links)
    for link in links:
        assert (await _get(router, link)).status_code == 200
    for name in re.findall(r"/v1/[a-z]+", response.text):
        assert name in PATHS


async def test_the_topics_are_served_as_asyncapi() -> None:
    """Beside the OpenAPI document, for generators and catalogues."""
    router = Router()
    add_docs_routes(router)
    response = await _get(router, "/asyncapi.json")
    assert response.status_code == 200
    assert response.json()["asyncapi"] == "3.0.0"
    assert "clew.events.v1" in response.json()["channels"]


async def test_the_registry_is_read_only() -> None:
    """Nothing can be registered through the gateway."""
    router = Router()
    add_registry_routes(router, contracts_registry())
    request = Request("POST", "/registry/subjects/x/versions", "", Headers([]), b"{}", "", 0)
    assert (await router.handle(request)).status == 405
