"""One request, one trace: through four processes onto Kafka, and honest about calls that end otherwise than well."""

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import grpc
import pytest

from clew.collector.v1.collector_service_pb2 import CollectEventsRequest
from clew.collector.v1.collector_service_pb2_grpc import CollectorServiceStub
from clew.event.v1.event_pb2 import EVENT_TYPE_PAGE, Event
from mesh.ids import new_id
from mesh.spans import SpanRecord
from tests.support.edge import Answer
from tests.support.mesh import RunningMesh, eventually

_HOP = {
    "identity": "clew.identity.v1.IdentityService/BatchResolveIdentities",
    "consent": "clew.consent.v1.ConsentService/BatchCheckConsents",
    "enrich": "clew.enrich.v1.EnrichService/BatchEnrichEvents",
}
_STATUS = "rpc.response.status_code"


class Caller:
    """The trace of somebody outside who calls us."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.trace_id, self.span_id = os.urandom(16).hex(), os.urandom(8).hex()
        self.headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{'01' if sampled else '00'}"}


def _page() -> dict[str, str]:
    # Somebody new each time, so that identity has something to write.
    return {"type": "page", "anonymousId": new_id(), "messageId": new_id()}


def _named(spans: list[SpanRecord], service: str, name: str) -> SpanRecord:
    (span,) = [span for span in spans if (span.service, span.name) == (service, name)]
    return span


def _client_span(mesh: RunningMesh, trace_id: str, service: str) -> SpanRecord:
    """The gateway's span of its call to a service."""
    name = _HOP[service]
    spans = eventually(
        lambda: [span for span in mesh.trace(trace_id, until=0) if (span.service, span.name) == ("gateway", name)],
        bool,
    )
    (span,) = spans
    return span


# What a trace holds


def test_a_request_is_one_trace_through_four_processes(mesh: RunningMesh) -> None:
    """The caller's trace holds edge, identity, consent, enrich and publish spans of four processes, well nested."""
    caller, page = Caller(), _page()
    assert mesh.edge.post(page, headers=caller.headers).status == 200
    spans = mesh.trace(caller.trace_id, until=9)
    assert {span.trace_id for span in spans} == {caller.trace_id}
    assert {span.service for span in spans} == {"gateway", "identity", "consent", "enrich"}
    assert len({span.process_id for span in spans}) == 4
    edge, batch = _named(spans, "gateway", "POST /v1/batch"), _named(spans, "gateway", "clew.batch")
    assert (edge.kind, edge.parent_span_id, batch.parent_span_id) == ("SERVER", caller.span_id, edge.span_id)
    for service, name in _HOP.items():
        call, served = _named(spans, "gateway", name), _named(spans, service, name)
        assert (call.kind, call.parent_span_id) == ("CLIENT", batch.span_id)
        assert (served.kind, served.parent_span_id) == ("SERVER", call.span_id)
        assert call.attributes[_STATUS] == served.attributes[_STATUS] == "OK"
    publish = _named(spans, "gateway", "publish")
    assert (publish.kind, publish.parent_span_id) == ("PRODUCER", batch.span_id)
    assert not any(span.status == "ERROR" for span in spans)


def test_stages_follow_one_another(mesh: RunningMesh) -> None:
    """In the trace each stage begins after the one before it has ended, all within the edge's span."""
    caller = Caller()
    mesh.edge.post(_page(), headers=caller.headers)
    spans = mesh.trace(caller.trace_id, until=9)
    edge = _named(spans, "gateway", "POST /v1/batch")
    stages = [_named(spans, "gateway", name) for name in (*_HOP.values(), "publish")]
    for earlier, later in zip([edge, *stages], stages, strict=False):
        assert (earlier.start_ns if earlier is edge else earlier.end_ns) <= later.start_ns
    assert stages[-1].end_ns <= edge.end_ns


def test_the_record_continues_the_trace(mesh: RunningMesh) -> None:
    """A record's traceparent is in the caller's trace, below the edge's span, good and failed ones alike."""
    caller, page, bad = Caller(), _page(), {"type": "shrug", "messageId": new_id()}
    mesh.edge.post(page, bad, headers=caller.headers)
    edge = _named(mesh.trace(caller.trace_id, until=9), "gateway", "POST /v1/batch")
    expected = f"00-{caller.trace_id}-{edge.span_id}-01"
    assert mesh.events.one(page["messageId"]).headers["traceparent"] == expected
    assert mesh.failed.one(str(bad["messageId"])).headers["traceparent"] == expected


def test_a_call_over_grpc_continues_its_callers_trace(mesh: RunningMesh) -> None:
    """The gRPC door takes the caller's trace from metadata, and the record continues it."""
    caller, event = Caller(), Event(message_id=new_id(), type=EVENT_TYPE_PAGE, anonymous_id=new_id())
    with grpc.insecure_channel(mesh.endpoints.grpc["gateway"]) as channel:
        metadata = (("x-write-key", mesh.endpoints.write_key), *caller.headers.items())
        CollectorServiceStub(channel).CollectEvents(CollectEventsRequest(events=[event]), timeout=10, metadata=metadata)
    spans = mesh.trace(caller.trace_id, until=9)
    assert {span.service for span in spans} == {"gateway", "identity", "consent", "enrich"}
    assert mesh.events.one(event.message_id).headers["traceparent"].split("-")[1] == caller.trace_id


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "x" * 5000,
    ],
)
def test_a_malformed_traceparent_breaks_nothing(mesh: RunningMesh, value: str) -> None:
    """What is no W3C trace context is as good as none: the event is accepted and starts a trace of its own."""
    page = _page()
    answer = mesh.edge.post(page, headers={"traceparent": value, "tracestate": "=,=,"})
    assert answer.verdicts == ["accepted"]
    version, trace_id, _, _ = mesh.events.one(page["messageId"]).headers["traceparent"].split("-")
    assert version == "00"
    assert trace_id not in {"4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32}


def test_a_caller_that_does_not_record_is_followed(mesh: RunningMesh) -> None:
    """An unsampled trace is carried on into the record and recorded nowhere."""
    caller, page = Caller(sampled=False), _page()
    mesh.edge.post(page, headers=caller.headers)
    traceparent = mesh.events.one(page["messageId"]).headers["traceparent"]
    assert (traceparent.split("-")[1], traceparent[-2:]) == (caller.trace_id, "00")
    time.sleep(0.5)
    assert mesh.trace(caller.trace_id, until=0) == []


# Calls that end otherwise


@contextmanager
def _waiting_client(mesh: RunningMesh, caller: Caller) -> Iterator[socket.socket]:
    """A client that has sent a request and waits for its answer."""
    host, _, port = urlsplit(mesh.endpoints.http).netloc.partition(":")
    body = f'{{"batch":[{{"type":"page","anonymousId":"{new_id()}"}}]}}'
    head = f"POST /v1/batch HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    head += f"X-Write-Key: {mesh.endpoints.write_key}\r\nTraceparent: {caller.headers['traceparent']}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(head.encode() + body.encode())
        yield client


def _hang_up(mesh: RunningMesh, caller: Caller) -> int:
    """Send a request, hang up while it is under way; the moment, as Unix nanoseconds."""
    with _waiting_client(mesh, caller):
        time.sleep(0.4)
        return time.time_ns()


def _milliseconds(span: SpanRecord, moment_ns: int) -> float:
    """How long after a moment the span ended."""
    return (span.end_ns - moment_ns) / 1e6


@contextmanager
def _writes_blocked(mesh: RunningMesh) -> Iterator[None]:
    """Hold the lock of identity's database, so that a write there waits, as for a slow disk."""
    with closing(sqlite3.connect(mesh.data_dir / "identity" / "identity.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")


def test_a_client_that_hangs_up_is_seen_as_cancelled_downstream(mesh: RunningMesh) -> None:
    """A hang-up while identity waits for its disk is CANCELLED in identity within 200 ms, and the chain ends there."""
    caller = Caller()
    with _writes_blocked(mesh):
        hung_up_ns = _hang_up(mesh, caller)
        call = _client_span(mesh, caller.trace_id, "identity")
        spans = mesh.trace(caller.trace_id, until=4)
    served = _named(spans, "identity", _HOP["identity"])
    assert call.attributes[_STATUS] == served.attributes[_STATUS] == "CANCELLED"
    assert 0 < _milliseconds(call, hung_up_ns) < 200
    assert 0 < _milliseconds(served, hung_up_ns) < 200
    assert {span.service for span in spans} == {"gateway", "identity"}
    edge = _named(spans, "gateway", "POST /v1/batch")
    assert (edge.status, edge.attributes["http.response.status_code"]) == ("ERROR", 499)
    assert (call.status, served.status) == ("ERROR", "UNSET")


@pytest.mark.parametrize("service", ["consent", "enrich"])
def test_a_hang_up_does_not_wait_for_a_service_that_is_stuck(mesh: RunningMesh, service: str) -> None:
    """With a service frozen in mid-chain the gateway's call to it is CANCELLED within 200 ms of the hang-up."""
    caller = Caller()
    with mesh.stopped(service):
        hung_up_ns = _hang_up(mesh, caller)
        call = _client_span(mesh, caller.trace_id, service)
    assert (call.attributes[_STATUS], call.status) == ("CANCELLED", "ERROR")
    assert 0 < _milliseconds(call, hung_up_ns) < 200
    mesh.wait_serving()


def test_a_hang_up_takes_no_other_request_along(mesh: RunningMesh) -> None:
    """Requests that wait together do not fall with the one whose client hangs up."""
    with mesh.stopped("consent"):
        first, leaving, staying = Caller(), Caller(), Caller()
        with _waiting_client(mesh, first), _waiting_client(mesh, staying) as client:
            with _waiting_client(mesh, leaving):
                time.sleep(0.3)
            os.kill(mesh.pid("consent"), signal.SIGCONT)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_refused_request_is_no_error_of_the_server(mesh: RunningMesh) -> None:
    """401 over HTTP and UNAUTHENTICATED over gRPC stand on the span as they are, and do not count as our failure."""
    over_http, over_grpc = Caller(), Caller()
    assert mesh.edge.post(_page(), key="nobody's", headers=over_http.headers).status == 401
    request = CollectEventsRequest(events=[Event(type=EVENT_TYPE_PAGE, anonymous_id="a")])
    with grpc.insecure_channel(mesh.endpoints.grpc["gateway"]) as channel:
        collector = CollectorServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            collector.CollectEvents(request, timeout=10, metadata=(*over_grpc.headers.items(),))
    (refused,) = mesh.trace(over_http.trace_id, until=1)
    assert (refused.attributes["http.response.status_code"], refused.status) == (401, "UNSET")
    (refused,) = mesh.trace(over_grpc.trace_id, until=1)
    assert (refused.attributes[_STATUS], refused.status) == ("UNAUTHENTICATED", "UNSET")


def _assert_try_again(answer: Answer, *codes: str) -> None:
    assert answer.status == 503, answer.body
    assert 1 <= int(answer.headers["retry-after"]) <= 300
    assert answer.json["code"] in codes


@pytest.mark.parametrize("service", ["identity", "consent"])
def test_a_service_that_does_not_answer_times_out(mesh: RunningMesh, service: str) -> None:
    """A frozen service costs its deadline: 503 with Retry-After within 10 s, DEADLINE_EXCEEDED on the call."""
    caller = Caller()
    with mesh.stopped(service):
        began = time.monotonic()
        answer = mesh.edge.post(_page(), headers=caller.headers)
        took = time.monotonic() - began
        call = _client_span(mesh, caller.trace_id, service)
    _assert_try_again(answer, "DEADLINE_EXCEEDED")
    assert took < 10
    assert answer.json["trace_id"] == caller.trace_id
    assert (call.attributes[_STATUS], call.status) == ("DEADLINE_EXCEEDED", "ERROR")
    edge = _named(mesh.trace(caller.trace_id, until=3), "gateway", "POST /v1/batch")
    assert (edge.attributes["http.response.status_code"], edge.status) == (503, "ERROR")
    mesh.wait_serving()


@pytest.mark.parametrize("service", ["identity", "consent", "enrich"])
def test_a_killed_service_fails_requests_until_it_is_back(mesh: RunningMesh, service: str) -> None:
    """Without a service: 503 with Retry-After and UNAVAILABLE on the call; the supervisor restarts it and says so."""
    caller, pid = Caller(), mesh.pid(service)
    os.kill(pid, signal.SIGKILL)
    answer = mesh.edge.post(_page(), headers=caller.headers)
    if answer.status != 200:  # the restart may be quicker than the request
        _assert_try_again(answer, "UPSTREAM_UNAVAILABLE", "DEADLINE_EXCEEDED")
        call = _client_span(mesh, caller.trace_id, service)
        assert (call.attributes[_STATUS], call.status) in {("UNAVAILABLE", "ERROR"), ("DEADLINE_EXCEEDED", "ERROR")}
    mesh.wait_serving()
    assert mesh.pid(service) != pid
    assert f"{service} ended with status -9; restarting" in mesh.said()
    eventually(mesh.said, lambda said: f"{service} serves again" in said)
    assert f"{service} serves again (restart 1)" in mesh.said()
