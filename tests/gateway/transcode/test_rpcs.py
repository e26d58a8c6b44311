"""Every typed rpc over HTTP, through a whole gateway with the real services behind it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from opentelemetry.trace import SpanKind

from gateway.http.message import Headers, Request
from gateway.routes.rpcs import UPSTREAM_SERVICES
from gateway.transcode.calls import over_channel
from gateway.transcode.transcoder import Transcoder
from mesh.errors import ClewError
from mesh.ids import new_id
from mesh.interceptors.client import TracedChannel
from tests.mesh.rpc import eventually
from tests.support.gateway import CLIENT_ID, CLIENT_SECRET, WRITE_KEY, RunningGateway, running_gateway

READ, WRITE, PROFILES, ADMIN = "clew.consents.read", "clew.consents.write", "clew.profiles.read", "clew.admin"
W = "/v1/workspaces/main"
SOMEBODY = "0193d3a4-0000-7000-8000-000000000000"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[RunningGateway]:
    """A gateway that all tests share but those that break it; each has people of its own."""
    async with running_gateway() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as made:
        yield made


async def resolve(gateway: RunningGateway, client: httpx.AsyncClient, **query: Any) -> str:
    """The profile of somebody, by BatchResolveIdentities over HTTP."""
    answer = await client.post(f"{W}/identities:batchResolve", json={"items": [query]}, headers=gateway.bearer(ADMIN))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["results"][0]["profileId"])


async def test_a_profile_is_found_by_id_and_by_identifier(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """Both bindings of GetProfile give the same profile; the identifier travels in a body."""
    profile_id = await resolve(gateway, client, anonymousId="a", userId="ü/1")
    by_id = await client.get(f"{W}/profiles/{profile_id}", headers=gateway.bearer(PROFILES))
    find = {"identifier": {"kind": "IDENTIFIER_KIND_USER_ID", "value": "ü/1"}}
    by_name = await client.post(f"{W}/profiles:find", json=find, headers=gateway.bearer(PROFILES))
    assert by_id.status_code == by_name.status_code == 200
    assert by_id.json() == by_name.json()
    assert by_id.json()["profile"]["profileId"] == profile_id
    assert by_id.headers["cache-control"] == "no-store"


async def test_consent_is_recorded_checked_and_listed(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """The ledger over HTTP: an entry, the decision that follows from it, and pages of the history."""
    path = f"{W}/subjects/{SOMEBODY}/consents"
    for choice in ("CHOICE_GRANTED", 2):
        body = {"choices": [{"purpose": "PURPOSE_ANALYTICS", "choice": choice}], "origin": "a test"}
        answer = await client.post(path, json=body, headers=gateway.bearer(WRITE))
        assert answer.status_code == 200, answer.text
    asked = await client.post(
        f"{W}/consents:batchCheck", json={"items": [{"subject": SOMEBODY}]}, headers=gateway.bearer(READ)
    )
    assert asked.json()["decisions"][0]["grantedPurposes"] == ["PURPOSE_ESSENTIAL"]
    page = await client.get(path, params={"pageSize": 1}, headers=gateway.bearer(READ))
    (newest,) = page.json()["records"]
    assert newest["choices"] == [{"purpose": "PURPOSE_ANALYTICS", "choice": "CHOICE_DENIED"}]
    rest = await client.get(path, params={"page_token": page.json()["nextPageToken"]}, headers=gateway.bearer(READ))
    assert [record["epoch"] for record in rest.json()["records"]] == ["1"]


async def test_a_token_from_the_edge_opens_the_edge(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """IssueToken and GetJwks take no bearer; what they give is what the other rpcs take."""
    asked = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "scopes": [ADMIN], "lifetime": "60s"}
    token = (await client.post("/v1/tokens", json=asked)).json()["accessToken"]
    answer = await client.get(f"{W}/profiles/{SOMEBODY}", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (404, "PROFILE_NOT_FOUND")
    keys = json.loads((await client.get("/v1/jwks")).json()["jwksJson"])["keys"]
    assert keys == gateway.signer.jwks()["keys"]
    wrong = await client.post("/v1/tokens", json={**asked, "clientSecret": "no"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "INVALID_CLIENT")


async def test_events_are_collected_like_any_others(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """CollectEvents over HTTP is the same pipeline: a verdict an event, and a record that continues the trace."""
    trace_id, message_id = "4bf92f3577b34da6a3ce929d0e0e4736", new_id()
    event = {"messageId": message_id, "type": "EVENT_TYPE_TRACK", "event": "Looked", "anonymousId": "a"}
    headers = {"X-Write-Key": WRITE_KEY, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    answer = await client.post("/v1/events", json={"events": [event, {}]}, headers=headers)
    assert [each["verdict"] for each in answer.json()["verdicts"]] == ["VERDICT_ACCEPTED", "VERDICT_REJECTED"]
    (record,) = gateway.bus.read("clew.events.v1")
    fields = dict(record.headers)
    assert fields["clew-message-id"] == message_id.encode()
    assert fields["traceparent"].split(b"-")[1] == trace_id.encode()


async def test_a_large_batch_is_converted_beside_the_loop(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """2,500 items come back in order, and probes are answered meanwhile."""
    items = [{"userAgent": f"curl/8.{index}.0", "locale": "de-CH"} for index in range(2_500)]
    answer = await client.post("/v1/events:batchEnrich", json={"items": items}, headers=gateway.bearer(ADMIN))
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 2_500
    assert (
        await client.post("/v1/events:batchEnrich", json={"items": []}, headers=gateway.bearer(ADMIN))
    ).status_code == 400


async def test_more_events_than_a_call_takes_are_refused(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """By the contract's own limit, before they are built; whoever has a write key can send such a body."""
    body = b'{"events": [' + b",".join([b"{}"] * 1_000_000) + b"]}"
    answer = await client.post("/v1/events", content=body, headers={"X-Write-Key": WRITE_KEY})
    assert (answer.status_code, answer.json()["rule"]) == (400, "repeated.max_items")
    assert "2500" in answer.json()["message"]


CALLS: list[tuple[str, str, str]] = [
    ("POST", f"{W}/identities:batchResolve", ADMIN),
    ("GET", f"{W}/profiles/{SOMEBODY}", PROFILES),
    ("POST", f"{W}/profiles:find", PROFILES),
    ("POST", f"{W}/consents:batchCheck", READ),
    ("POST", f"{W}/subjects/s/consents", WRITE),
    ("GET", f"{W}/subjects/s/consents", READ),
    ("POST", "/v1/events:batchEnrich", ADMIN),
]


@pytest.mark.parametrize(("method", "path", "scope"), CALLS)
async def test_every_rpc_asks_for_its_scope(
    gateway: RunningGateway, client: httpx.AsyncClient, method: str, path: str, scope: str
) -> None:
    """No token 401, a bad one 401, one without the scope 403, one with it or with `clew.admin` goes on."""

    async def status(headers: dict[str, str]) -> tuple[int, str]:
        answer = await client.request(method, path, headers=headers)
        return answer.status_code, answer.json().get("code", "")

    assert await status({}) == (401, "MISSING_CREDENTIALS")
    assert await status({"X-Write-Key": WRITE_KEY}) == (401, "MISSING_CREDENTIALS")
    assert await status({"Authorization": "Bearer a.b.c"}) == (401, "INVALID_TOKEN")
    others = {"clew.impersonate", READ, WRITE, PROFILES} - {scope}
    assert await status(gateway.bearer(*others)) == (403, "INSUFFICIENT_SCOPE")
    assert (await status(gateway.bearer(scope)))[0] in {200, 400, 404}
    assert (await status(gateway.bearer(ADMIN)))[0] in {200, 400, 404}


async def test_events_ask_for_a_write_key(client: httpx.AsyncClient, gateway: RunningGateway) -> None:
    """A token alone names no source, and an unknown key belongs to none."""
    for headers, code in (
        ({}, "MISSING_CREDENTIALS"),
        (gateway.bearer(ADMIN), "MISSING_CREDENTIALS"),
        ({"X-Write-Key": "?"}, "UNKNOWN_WRITE_KEY"),
    ):
        answer = await client.post("/v1/events", content=b"{", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{W}/profiles/{SOMEBODY}?workspace=main", 400, "INVALID_ARGUMENT"),
        ("GET", f"{W}/profiles/{SOMEBODY}?x=1", 400, "INVALID_ARGUMENT"),
        ("GET", f"{W}/profiles/nobody", 400, "INVALID_ARGUMENT"),
        ("GET", f"/v1/workspaces/{'w' * 65}/profiles/{SOMEBODY}", 400, "INVALID_ARGUMENT"),
        ("DELETE", f"{W}/profiles/{SOMEBODY}", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", f"{W}/subjects/s/consents", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/tokens", 405, "METHOD_NOT_ALLOWED"),
        ("POST", f"{W}/profiles:lose", 404, "ROUTE_NOT_FOUND"),
        ("GET", f"{W}/profiles/", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/workspaces//profiles/x", 404, "ROUTE_NOT_FOUND"),
        ("GET", f"{W}/profiles/%00", 400, "MALFORMED_HTTP"),
        ("GET", f"{W}/profiles/%zz", 400, "MALFORMED_HTTP"),
    ],
)
async def test_every_refusal_is_a_problem(
    gateway: RunningGateway, client: httpx.AsyncClient, method: str, path: str, *, status: int, code: str
) -> None:
    """RFC 9457, with `code`, `message` and a trace id, whatever is wrong with a request."""
    answer = await client.request(method, path, headers=gateway.bearer(ADMIN))
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["message"]
    assert len(problem["trace_id"]) == 32
    if status == 405:
        assert answer.headers["allow"] == problem["allow"] != ""


async def test_a_service_that_is_gone_is_a_503() -> None:
    """With a Retry-After, and the name of the service."""
    async with running_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        await gateway.servers[1].stop(None)
        answer = await client.get(f"{W}/subjects/s/consents", headers=gateway.bearer(ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert (answer.json()["service"], answer.headers["retry-after"]) == ("consent", "1")


async def test_one_trace_leads_from_the_client_to_the_service(
    gateway: RunningGateway, client: httpx.AsyncClient
) -> None:
    """The client's trace, the edge's span by its route, the call, the service's span; a refusal names the trace."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {**gateway.bearer(ADMIN), "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "tracestate": "v=1"}
    answer = await client.get(f"{W}/profiles/{SOMEBODY}", headers=headers)
    assert answer.json()["trace_id"] == trace_id
    await eventually(lambda: any(span.name.endswith("/GetProfile") for span in gateway.behind.spans(SpanKind.SERVER)))
    spans = [*gateway.recorder.spans(), *gateway.behind.spans()]
    ours = [span for span in spans if span.context and f"{span.context.trace_id:032x}" == trace_id]
    names = {span.name for span in ours}
    assert "GET /v1/workspaces/{workspace}/profiles/{profile_id}" in names
    assert "clew.identity.v1.IdentityService/GetProfile" in names
    assert not any(SOMEBODY in str(span.attributes) for span in ours), "ids of people stay out of spans"


@pytest.mark.parametrize(
    "fields",
    [
        [("traceparent", "garbage")],
        [("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")],
        [("traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        [("traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")] * 2,
        [("traceparent", "\xff"), ("tracestate", "\xff")],
        [("tracestate", "a=1")],
    ],
)
async def test_a_malformed_trace_header_starts_a_new_trace(
    gateway: RunningGateway, client: httpx.AsyncClient, fields: list[tuple[str, str]]
) -> None:
    """W3C Trace Context: what breaks the rules is ignored, and never breaks a request."""
    pairs = (*fields, *gateway.bearer(ADMIN).items())
    headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    answer = await client.get(f"{W}/profiles/{SOMEBODY}", headers=headers)
    assert answer.status_code == 404
    assert answer.json()["trace_id"] != "4bf92f3577b34da6a3ce929d0e0e4736"
    assert int(answer.json()["trace_id"], 16)


async def test_a_malformed_tracestate_keeps_the_trace(gateway: RunningGateway, client: httpx.AsyncClient) -> None:
    """The vendor's part is dropped, the trace goes on."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "tracestate": "a=1,a=2,,=="}
    answer = await client.get(f"{W}/profiles/{SOMEBODY}", headers={**gateway.bearer(ADMIN), **headers})
    assert answer.json()["trace_id"] == trace_id


async def test_headers_of_clients_never_become_metadata(gateway: RunningGateway) -> None:
    """The service behind sees the trace, and nothing else that a client sent."""
    seen: list[str] = []

    class Spy(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.extend(key for key, _ in details.invocation_metadata)
            return await continuation(details)

    server = grpc.aio.server(interceptors=[Spy()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as inner:
        channel = TracedChannel(inner, f"127.0.0.1:{port}", "identity", gateway.recorder.telemetry)
        transcoder = Transcoder(gateway.gateway.transcoder._guard, gateway.recorder.telemetry.tracer, request_seconds=5)
        transcoder.add(UPSTREAM_SERVICES[0], over_channel(channel, "identity"))
        hostile = {"grpc-timeout": "1n", "x-user": "root", "clew-tenant": "x", "te": "x", "grpc-metadata-a": "b"}
        headers = Headers.of([*hostile.items(), ("cookie", "a=b"), ("authorization", "Bearer x")])
        handler = transcoder.find("GET", "/v1/jwks")
        assert handler is not None
        # The stranger's server offers no rpc: what it was sent is all that matters.
        with pytest.raises(ClewError):
            await handler(Request("GET", "/v1/jwks", "", headers, b"", "", 0))
        transcoder.close()
    await server.stop(None)
    assert set(seen) <= {"user-agent", "traceparent", "grpc-accept-encoding", "accept-encoding", "te", "content-type"}
    assert "traceparent" in seen
