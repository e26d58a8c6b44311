"""Which handler a request goes to, and what a browser on another site may do."""

import httpx
import pytest

from gateway.http.cors import Cors, CorsPolicy
from gateway.http.errors import MethodNotAllowed, RouteNotFound
from gateway.http.message import Handler, Headers, Request, Response
from gateway.http.router import Router
from gateway.http.server import HttpServer
from mesh.clock import FixedClock


def _named(name: str) -> Handler:
    async def handler(_: Request) -> Response:
        return Response(200, name.encode(), "text/plain")

    return handler


@pytest.fixture
def router() -> Router:
    """A router with exact routes and nested prefixes."""
    router = Router()
    router.add("POST", "/v1/track", _named("track"))
    router.add("GET", "/v1/thing", _named("get thing"))
    router.add("PUT", "/v1/thing", _named("put thing"))
    router.mount("GET", "/v1/", _named("v1"))
    router.mount("GET", "/v1/projects/", _named("projects"))
    return router


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/track", b"track"),
        ("GET", "/v1/thing", b"get thing"),
        ("PUT", "/v1/thing", b"put thing"),
        ("HEAD", "/v1/thing", b"get thing"),
        ("GET", "/v1/projects/k/settings", b"projects"),
        ("GET", "/v1/projects/", b"projects"),
        ("GET", "/v1/projects", b"v1"),
        ("HEAD", "/v1/", b"v1"),
    ],
)
async def test_the_closest_route_answers(router: Router, method: str, path: str, name: bytes) -> None:
    """An exact route goes before a prefix, a longer prefix before a shorter one, and GET serves HEAD."""
    response = await router.handle(Request(method, path, "", Headers([]), b"", "", 0))
    assert response.body == name


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/track", "*", "", "/V1/track"])
def test_an_unknown_path_is_not_found(router: Router, path: str) -> None:
    """The refusal names the path."""
    with pytest.raises(RouteNotFound) as refusal:
        router.find("GET", path)
    assert refusal.value.metadata == {"path": path}


def test_a_long_foreign_path_is_shown_short_and_in_ascii(router: Router) -> None:
    """What a client sends comes back to it, and into no header or log line, as it was."""
    with pytest.raises(RouteNotFound) as refusal:
        router.find("GET", "/é" + "x" * 1000)
    assert refusal.value.metadata["path"].startswith("/\\xe9xxx")
    assert len(refusal.value.metadata["path"]) < 300


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/track", "OPTIONS, POST"),
        ("DELETE", "/v1/thing", "GET, HEAD, OPTIONS, PUT"),
        ("POST", "/v1/projects/k/settings", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_refused(router: Router, method: str, path: str, allow: str) -> None:
    """The refusal names the methods that it takes."""
    with pytest.raises(MethodNotAllowed) as refusal:
        router.find(method, path)
    assert refusal.value.metadata == {"allow": allow}


def test_a_route_is_added_once(router: Router) -> None:
    """A second handler for one route, and a prefix that is none, are faults of the program."""
    with pytest.raises(ValueError, match="POST /v1/track has a handler"):
        router.add("POST", "/v1/track", _named("again"))
    with pytest.raises(ValueError, match="does not end with a slash"):
        router.mount("GET", "/v1", _named("no slash"))


async def _ask(router: Router, policy: CorsPolicy | None, method: str, path: str, **fields: str) -> httpx.Response:
    cors = Cors(policy)
    server = HttpServer(cors.wrap(router.handle), clock=FixedClock(), decorate=cors.decorate)
    port = await server.start("127.0.0.1", 0)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    async with httpx.AsyncClient() as client:
        response = await client.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)
    await server.drain(1)
    return response


@pytest.mark.parametrize("path", ["/v1/track", "/v1/unknown/route"])
async def test_a_preflight_is_answered_for_every_path(router: Router, path: str) -> None:
    """Browsers learn what they may send, retry counts included, and remember it for two hours."""
    response = await _ask(
        router, None, "OPTIONS", path, origin="https://shop.example", access_control_request_method="POST"
    )
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["vary"] == "Origin"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert {"content-type", "authorization", "x-write-key", "x-retry-count", "traceparent", "tracestate"} <= set(
        response.headers["access-control-allow-headers"].split(", ")
    )
    assert response.headers["access-control-max-age"] == "7200"


async def test_options_that_is_no_preflight_goes_to_the_router(router: Router) -> None:
    """Without the fields of a preflight, OPTIONS is a method like another."""
    response = await _ask(router, None, "OPTIONS", "/v1/track")
    assert (response.status_code, response.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("GET", 405)])
async def test_answers_and_refusals_can_be_read_from_any_site(router: Router, method: str, status: int) -> None:
    """A page sees why it was refused and when to send again."""
    response = await _ask(router, None, method, "/v1/track", origin="https://shop.example")
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert "retry-after" in response.headers["access-control-expose-headers"]
    assert response.headers["vary"] == "Origin"


async def test_a_refusal_of_the_edge_itself_can_be_read_too(router: Router) -> None:
    """An unsupported encoding never reaches the router, and its problem is marked all the same."""
    cors = Cors()
    server = HttpServer(cors.wrap(router.handle), clock=FixedClock(), decorate=cors.decorate)
    port = await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient() as client:
        headers = {"origin": "https://shop.example", "content-encoding": "br"}
        response = await client.post(f"http://127.0.0.1:{port}/v1/track", content=b"x", headers=headers)
    await server.drain(1)
    assert response.status_code == 415
    assert response.headers["access-control-allow-origin"] == "https://shop.example"


async def test_without_an_origin_nothing_is_added(router: Router) -> None:
    """Servers that send events pay nothing for browsers."""
    response = await _ask(router, None, "POST", "/v1/track")
    assert not [name for name in response.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://shop.example", True), ("https://evil.example", False), ("null", False)]
)
async def test_origins_can_be_listed(router: Router, origin: str, allowed: bool) -> None:
    """With a list, only its origins are echoed, and caches are told that the answer depends on the origin."""
    policy = CorsPolicy(origins=("https://shop.example",))
    response = await _ask(router, policy, "POST", "/v1/track", origin=origin)
    assert ("access-control-allow-origin" in response.headers) is allowed
    assert response.headers["vary"] == "Origin"


def test_headers_ignore_case_and_keep_every_pair() -> None:
    """Look-ups ignore case and give the first of several; the pairs keep their order and number."""
    headers = Headers.of([("Accept", "a"), ("X-B", "é"), ("ACCEPT", "c")])
    assert headers.get("aCCept") == "a"
    assert headers.get_all("Accept") == ["a", "c"]
    assert headers.get("x-b") == "é"
    assert headers.get_raw(b"x-b") == b"\xe9"
    assert (headers.get("none"), headers.get_all("none"), headers.get_raw(b"none")) == (None, [], None)
    assert ("x-B" in headers, "none" in headers) == (True, False)
    assert list(headers) == [("accept", "a"), ("x-b", "é"), ("accept", "c")]
    assert (len(headers), headers.repeats()) == (3, True)
