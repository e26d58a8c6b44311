"""The gateway's own rpcs over HTTP: sources and their keys, the live view, the ledger, through a whole gateway."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from opentelemetry.trace import SpanContext

from gateway.errors import UnknownWriteKey
from gateway.sources import Source
from gateway.tap import MAX_WAITING
from tests.mesh.rpc import eventually
from tests.support.gateway import WRITE_KEY, RunningGateway, running_gateway

READ, WRITE, DEBUG, ADMIN = "clew.sources.read", "clew.sources.write", "clew.debug.read", "clew.admin"
SOURCES = "/v1/workspaces/main/sources"
TAIL, LEDGER = "/v1/events:tail", "/v1/ledger"
SSE = "text/event-stream"
TRACE = SpanContext(0xABC, 1, is_remote=False)
REFUSAL = UnknownWriteKey("no such key")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[RunningGateway]:
    """A gateway that all tests share but the one that stops it; each test has sources of its own."""
    async with running_gateway() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as made:
        yield made


class Admin:
    """Somebody with a token, who expects to be answered."""

    def __init__(self, gateway: RunningGateway, client: httpx.AsyncClient, scope: str) -> None:
        self._headers = gateway.bearer(scope)
        self._client = client

    async def __call__(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer to a request."""
        answer = await self._client.request(method, path, json=body, params=query, headers=self._headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()


@pytest.fixture
def admin(gateway: RunningGateway, client: httpx.AsyncClient) -> Admin:
    """One who may read and change sources, and nothing else."""
    return Admin(gateway, client, WRITE)


async def send(client: httpx.AsyncClient, write_key: str, message_id: str = "m") -> int:
    """Send an event; the status of the answer."""
    event = {"type": "track", "event": "Looked", "anonymousId": "a", "messageId": message_id}
    return (await client.post("/v1/batch", json={"batch": [event]}, headers={"X-Write-Key": write_key})).status_code


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["code"]


async def test_a_source_is_made_read_changed_and_removed(
    admin: Admin, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    """Its place is the path, its settings are the body, and a patch changes what the mask names, to absent ones too."""
    at = f"{SOURCES}/shop"
    limits = {"eventsPerSecond": 5, "burst": 10}
    made = await admin("POST", SOURCES, {"name": "shop", "purposes": ["PURPOSE_ANALYTICS"], "limits": limits})
    assert made["source"]["workspace"] == "main"
    assert made["source"]["origin"] == "SOURCE_ORIGIN_STORE"
    assert (await admin("GET", at))["source"] == made["source"]
    values = {"allowedOrigins": {"origins": ["https://shop.example"]}, "disabled": True}
    changed = (await admin("PATCH", at, values, updateMask="limits,allowedOrigins"))["source"]
    assert changed["allowedOrigins"] == values["allowedOrigins"]
    assert changed["purposes"] == ["PURPOSE_ANALYTICS"]
    assert "limits" not in changed, "the mask names it and the body does not"
    assert changed["disabled"] is False, "the body names it and the mask does not"
    assert await admin("DELETE", at) == {}
    answer = await client.get(at, headers=gateway.bearer(READ))
    assert code_of(answer) == (404, "SOURCE_NOT_FOUND")


async def test_a_patch_without_a_mask_changes_nothing(
    admin: Admin, gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    """It is refused by the name of what is missing; a mask takes both spellings of a field's name."""
    await admin("POST", SOURCES, {"name": "masked"})
    for query in ("", "?updateMask=allowed__origins", "?updateMask=name", "?updateMask="):
        answer = await client.patch(f"{SOURCES}/masked{query}", json={"disabled": True}, headers=gateway.bearer(WRITE))
        assert (answer.status_code, answer.json()["field"]) == (400, "update_mask"), query
    assert (await admin("GET", f"{SOURCES}/masked"))["source"]["disabled"] is False
    for mask, origin in (("allowed_origins", "https://a.example"), ("allowedOrigins", "https://b.example")):
        patch = await admin("PATCH", f"{SOURCES}/masked", {"allowedOrigins": {"origins": [origin]}}, updateMask=mask)
        assert patch["source"]["allowedOrigins"] == {"origins": [origin]}


async def test_a_key_is_made_rotated_and_revoked_at_once(admin: Admin, client: httpx.AsyncClient) -> None:
    """A new key lets in when it is shown, the rotated one for its overlap, the revoked one never again."""
    await admin("POST", SOURCES, {"name": "keys"})
    first = await admin("POST", f"{SOURCES}/keys/writeKeys", {})
    assert await send(client, first["secret"]) == 200
    at = f"{SOURCES}/keys/writeKeys/{first['writeKey']['id']}"
    second = await admin("POST", f"{at}:rotate", {"overlap": "3600s"})
    assert second["replaced"]["id"] == first["writeKey"]["id"]
    assert second["replaced"]["expireTime"]
    assert [await send(client, each["secret"]) for each in (first, second)] == [200, 200]
    revoked = await admin("POST", f"{at}:revoke")
    assert revoked["writeKey"]["state"] == "WRITE_KEY_STATE_REVOKED"
    assert [await send(client, each["secret"]) for each in (first, second)] == [401, 200]
    assert await admin("POST", f"{at}:revoke", {}) == revoked, "once more changes nothing"


async def test_lists_come_in_pages(admin: Admin) -> None:
    """Sources of one workspace and of all, those of the sources file among them, and the workspaces."""
    for workspace, name in (("pages", "a"), ("pages", "b"), ("pages-2", "c")):
        await admin("POST", f"/v1/workspaces/{workspace}/sources", {"name": name})
    first = await admin("GET", "/v1/workspaces/pages/sources", pageSize="1")
    assert [one["name"] for one in first["sources"]] == ["a"]
    rest = await admin("GET", "/v1/workspaces/pages/sources", page_token=first["nextPageToken"])
    assert ([one["name"] for one in rest["sources"]], rest["nextPageToken"]) == (["b"], "")
    places = {(one["workspace"], one["name"]) for one in (await admin("GET", "/v1/workspaces/-/sources"))["sources"]}
    assert {("main", "default"), ("pages", "a"), ("pages-2", "c")} <= places
    counts = {one["name"]: one["sourceCount"] for one in (await admin("GET", "/v1/workspaces"))["workspaces"]}
    assert (counts["pages"], counts["pages-2"]) == (2, 1)


async def test_the_history_says_who_did_what(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """The actor is the subject of the token that came with the HTTP request; the history outlives the source."""
    at = f"{SOURCES}/history"
    for method, path, body, who in (("POST", SOURCES, {"name": "history"}, "ann"), ("DELETE", at, None, "bob")):
        token = {"Authorization": f"Bearer {gateway.token(WRITE, subject=who)}"}
        assert (await client.request(method, path, json=body, headers=token)).status_code == 200
    answer = await client.get(f"{at}/changes", headers=gateway.bearer(READ))
    changes = [(one["actor"], one["kind"]) for one in answer.json()["changes"]]
    assert changes == [("bob", "SOURCE_CHANGE_KIND_DELETED"), ("ann", "SOURCE_CHANGE_KIND_CREATED")]


@pytest.mark.parametrize(
    ("method", "path", "body", "refusal"),
    [
        ("POST", SOURCES, {"name": "default"}, (409, "SOURCE_EXISTS")),
        ("POST", SOURCES, {"name": "a/b"}, (400, "INVALID_ARGUMENT")),
        ("POST", SOURCES, {"name": "x", "workspace": "main"}, (400, "INVALID_ARGUMENT")),
        ("POST", SOURCES, {"name": "x", "allowedOrigins": {"origins": ["shop"]}}, (400, "INVALID_ARGUMENT")),
        ("POST", SOURCES, {"name": "x", "limits": {"eventsPerSecond": 0, "burst": 1}}, (400, "INVALID_ARGUMENT")),
        ("DELETE", f"{SOURCES}/default", None, (409, "SOURCE_READ_ONLY")),
        ("GET", f"{SOURCES}/{'x' * 65}", None, (400, "INVALID_ARGUMENT")),
        ("POST", f"{SOURCES}/default/writeKeys/x:rotate", {"overlap": "7776001s"}, (400, "INVALID_ARGUMENT")),
        ("GET", f"{LEDGER}?granularity=9", None, (400, "INVALID_ARGUMENT")),
        ("POST", TAIL, {"workspace": "w" * 65}, (400, "INVALID_ARGUMENT")),
        ("GET", TAIL, None, (405, "METHOD_NOT_ALLOWED")),
        ("PUT", f"{SOURCES}/default", None, (405, "METHOD_NOT_ALLOWED")),
    ],
)
async def test_what_breaks_the_contract_is_refused(
    gateway: RunningGateway, client: httpx.AsyncClient, method: str, path: str, *, body: Any, refusal: tuple[int, str]
) -> None:
    """By the same rules as a gRPC call, though none is made."""
    answer = await client.request(method, path, json=body, headers=gateway.bearer(ADMIN))
    assert code_of(answer) == refusal
    assert answer.headers["content-type"] == "application/problem+json"


CALLS: list[tuple[str, str, tuple[str, ...]]] = [
    ("POST", SOURCES, (WRITE,)),
    ("GET", f"{SOURCES}/x", (READ, WRITE)),
    ("GET", SOURCES, (READ, WRITE)),
    ("PATCH", f"{SOURCES}/x?updateMask=disabled", (WRITE,)),
    ("DELETE", f"{SOURCES}/x", (WRITE,)),
    ("GET", "/v1/workspaces", (READ, WRITE)),
    ("POST", f"{SOURCES}/x/writeKeys", (WRITE,)),
    ("POST", f"{SOURCES}/x/writeKeys/k:rotate", (WRITE,)),
    ("POST", f"{SOURCES}/x/writeKeys/k:revoke", (WRITE,)),
    ("GET", f"{SOURCES}/x/changes", (READ, WRITE)),
    ("POST", TAIL, (DEBUG,)),
    ("GET", LEDGER, ()),
]


@pytest.mark.parametrize(("method", "path", "scopes"), CALLS)
async def test_every_rpc_asks_for_its_scope(
    gateway: RunningGateway, client: httpx.AsyncClient, method: str, path: str, scopes: tuple[str, ...]
) -> None:
    """No token 401, a write key 401, a token for something else 403; each of its scopes and `clew.admin` open it."""

    async def status(headers: dict[str, str]) -> tuple[int, str]:
        async with client.stream(method, path, headers=headers) as answer:
            refused = answer.status_code >= 400
            return answer.status_code, json.loads(await answer.aread())["code"] if refused else ""

    assert await status({}) == (401, "MISSING_CREDENTIALS")
    assert await status({"X-Write-Key": WRITE_KEY}) == (401, "MISSING_CREDENTIALS")
    assert await status({"Authorization": "Bearer a.b.c"}) == (401, "INVALID_TOKEN")
    others = {READ, WRITE, DEBUG, "clew.profiles.read", "clew.impersonate"}.difference(scopes)
    assert await status(gateway.bearer(*others)) == (403, "INSUFFICIENT_SCOPE")
    for scope in (*scopes, ADMIN):
        assert (await status(gateway.bearer(scope)))[0] in {200, 400, 404}


async def test_the_ledger_adds_up(gateway: RunningGateway, client: httpx.AsyncClient, admin: Admin) -> None:
    """The counts of one source, whole and by minute, with what was answered before the call."""
    await admin("POST", SOURCES, {"name": "counted"})
    key = (await admin("POST", f"{SOURCES}/counted/writeKeys", {}))["secret"]
    for message_id in ("m1", "m2", "m1"):
        assert await send(client, key, message_id) == 200
    ledger = Admin(gateway, client, ADMIN)
    whole = await ledger("GET", LEDGER, source="counted")
    (entry,) = whole["entries"]
    assert (entry["received"], entry["published"], entry["duplicate"]) == ("3", "2", "1")
    assert (whole["balanced"], whole["inFlight"]) == (True, "0")
    minutes = await ledger("GET", LEDGER, workspace="main", source="counted", granularity="GRANULARITY_MINUTE")
    assert sum(int(each["received"]) for each in minutes["entries"]) == 3
    assert all(each["minuteTime"] for each in minutes["entries"])
    assert (await ledger("GET", LEDGER, source="counted", endTime="2020-01-01T00:00:00Z"))["entries"] == []


@asynccontextmanager
async def tail(
    gateway: RunningGateway, client: httpx.AsyncClient, accept: str = SSE, **wanted: Any
) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of the live view that are not empty; what happens from now on is in it."""
    headers = {**gateway.bearer(DEBUG), "Accept": accept}
    async with client.stream("POST", TAIL, json=wanted, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(accept)
        assert gateway.gateway.tap.open
        yield (line async for line in answer.aiter_lines() if line not in {"", ":"})


@pytest.mark.parametrize(("accept", "prefix"), [(SSE, "data: "), ("application/x-ndjson", "")])
async def test_events_are_shown_live(
    gateway: RunningGateway, client: httpx.AsyncClient, admin: Admin, accept: str, prefix: str
) -> None:
    """Each with the verdict of every stage and its trace, without what it says about a person; filters hold."""
    name = f"live{len(prefix)}"
    await admin("POST", SOURCES, {"name": name})
    key = (await admin("POST", f"{SOURCES}/{name}/writeKeys", {}))["secret"]
    async with tail(gateway, client, accept, source=name, verdicts=["VERDICT_ACCEPTED"]) as lines:
        assert await send(client, WRITE_KEY, f"other-{name}") == 200
        body = {"event": "Bought", "userId": "ann@example.com", "messageId": f"shown-{name}"}
        answer = await client.post("/v1/track", json=body, headers={"X-Write-Key": key})
        assert answer.status_code == 200
        line = await anext(lines)
    assert line.startswith(prefix)
    shown = json.loads(line.removeprefix(prefix))
    event = shown["event"]
    assert (event["source"], event["messageId"], event["verdict"]) == (name, f"shown-{name}", "VERDICT_ACCEPTED")
    assert [stage["stage"] for stage in event["stages"]][-1] == "STAGE_PUBLISH"
    assert {stage["status"] for stage in event["stages"]} == {"STAGE_STATUS_PASSED"}
    assert int(event["traceId"], 16)
    assert "ann@example.com" not in line
    await eventually(lambda: not gateway.gateway.tap.open)


async def test_a_reader_that_does_not_read_is_told_what_it_lost(
    gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    """No more waits for it than for a gRPC reader; the rest is lost, and the numbers add up."""
    tap = gateway.gateway.tap
    async with tail(gateway, client, source="flood") as lines:
        for _ in range(1_000):
            tap.refused(Source("main", "flood", frozenset({1})), REFUSAL, TRACE, 1)
        shown = lost = 0
        while shown + lost < 1_000:
            message = json.loads((await anext(lines)).removeprefix("data: "))
            shown += "event" in message
            lost += int(message["lostEvents"])
    assert shown + lost == 1_000
    assert 0 < shown <= MAX_WAITING


async def test_the_live_view_ends_when_the_gateway_stops() -> None:
    """With a last word that says why, in time for the drain, and cut off, so that nobody takes it for complete."""
    async with running_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        async with tail(gateway, client) as lines:
            gateway.gateway.tap.close()
            assert await anext(lines) == "event: error"
            problem = json.loads((await anext(lines)).removeprefix("data: "))
            assert (problem["code"], problem["status"]) == ("DRAINING", 503)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(lines)
        late = await client.post(TAIL, json={}, headers=gateway.bearer(DEBUG))
        assert code_of(late) == (503, "DRAINING")


async def test_a_request_is_one_span_by_its_route(
    gateway: RunningGateway, client: httpx.AsyncClient, admin: Admin
) -> None:
    """In the client's trace, with the status; the name of what was asked for stays out of it."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {**gateway.bearer(READ), "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    answer = await client.get(f"{SOURCES}/nowhere", headers=headers)
    assert (answer.status_code, answer.json()["trace_id"]) == (404, trace_id)
    spans = [span for span in gateway.recorder.spans() if span.context and f"{span.context.trace_id:032x}" == trace_id]
    (span,) = spans
    assert span.name == "GET /v1/workspaces/{workspace}/sources/{source}"
    assert (span.attributes or {})["http.response.status_code"] == 404
