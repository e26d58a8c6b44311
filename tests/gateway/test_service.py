"""The gRPC door: the real servicer over a real server, as services inside see it."""

import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call

from clew.collector.v1.collector_service_pb2 import CollectEventsRequest, FilterReason, Verdict
from clew.collector.v1.collector_service_pb2_grpc import (
    CollectorServiceStub,
    add_CollectorServiceServicer_to_server,
)
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import Event, EventType
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.identity.v1.identifier_pb2 import Assurance
from gateway.admission import Admission
from gateway.collect import Collector
from gateway.limits.limiter import Limiter
from gateway.service import CollectorServicer, _peer_ip
from gateway.sources import Source, SourceLimits, Sources, hash_key
from gateway.stats import Stats
from mesh.clock import FixedClock
from mesh.errors import StorageUnavailable
from mesh.interceptors.server import ServerInterceptor
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, Verifier
from mesh.telemetry import start_telemetry
from tests.gateway.scripted import SOURCE, Stage, running_stage
from tests.support.grpc_fixtures import BackgroundLoop, grpc_addr, grpc_loop, grpc_server  # noqa: F401

KEY = ("x-write-key", "k1")
SIGNER = Signer(generate_private_key(SECP256R1()), "https://clew.test")
NOW_NS = 1_795_446_670_000_000_000


@pytest.fixture(scope="module")
def stage(grpc_loop: BackgroundLoop) -> Iterator[Stage]:  # noqa: F811 - pytest finds fixtures by name
    """Scripted services and a bus in memory, on the loop that the servicer runs on."""
    stack = AsyncExitStack()
    yield grpc_loop.run(stack.enter_async_context(running_stage()))
    grpc_loop.run(stack.aclose())


@pytest.fixture(scope="module")
def grpc_servicer(stage: Stage) -> CollectorServicer:
    """The servicer that pytest-grpc serves."""
    tokens = IssuerVerifiers([Verifier("https://clew.test", "clew", JwksSource.fixed(SIGNER.jwks()))])
    slow = Source("shop", "slow", SOURCE.purposes, SourceLimits(0.01, 1))
    admission = Admission(Sources({hash_key("k1"): SOURCE, hash_key("slow"): slow}), tokens)
    collector = Collector(
        admission,
        Limiter(stage.recorder.telemetry.meter),
        stage.pipeline,
        Stats(stage.recorder.telemetry.meter),
        request_seconds=5.0,
    )
    return CollectorServicer(collector, FixedClock(NOW_NS))


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[ServerInterceptor]:
    """What stands around every rpc of a running process."""
    return [ServerInterceptor(start_telemetry("gateway", None, {"OTEL_SDK_DISABLED": "true"}))]


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return add_CollectorServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    """The stub that pytest-grpc calls it with."""
    return CollectorServiceStub


def track(message_id: str, **fields: Any) -> Event:
    """One typed track call."""
    values: dict[str, Any] = {"anonymous_id": "a", "event": "Seen", **fields}
    return Event(type=EventType.EVENT_TYPE_TRACK, message_id=message_id, **values)


def collect(stub: Any, *events: Event, metadata: tuple[tuple[str, str], ...] = (KEY,)) -> list[Any]:
    """Send typed events; the verdicts."""
    return list(stub.CollectEvents(CollectEventsRequest(events=events), metadata=metadata, timeout=10).verdicts)


def refusal(stub: Any, *events: Event, metadata: tuple[tuple[str, str], ...]) -> tuple[grpc.StatusCode, str]:
    """Send what is refused as a whole; the status and the one reason."""
    with pytest.raises(grpc.RpcError) as raised:
        collect(stub, *events, metadata=metadata)
    assert isinstance(raised.value, grpc.Call)
    status = from_call(raised.value)
    assert status is not None
    (detail,) = status.details
    info = ErrorInfo()
    detail.Unpack(info)
    return raised.value.code(), info.reason


def record(stage: Stage, message_id: str) -> EnrichedEvent:
    """The published event with this message id."""
    (found,) = [
        record
        for record in stage.bus.read("clew.events.v1")
        if ("clew-message-id", message_id.encode()) in record.headers
    ]
    return EnrichedEvent.FromString(found.value[6:])


def test_every_event_gets_its_verdict_in_order(grpc_stub: Any, stage: Stage) -> None:
    """Good, bad and repeated ones: the call is OK, and tells them apart."""
    bad = Event(type=EventType.EVENT_TYPE_TRACK, message_id="s-2", event="Seen")
    verdicts = collect(grpc_stub, track("s-1"), bad, track("s-1"))
    assert [verdict.message_id for verdict in verdicts] == ["s-1", "s-2", "s-1"]
    assert [verdict.verdict for verdict in verdicts] == [
        Verdict.VERDICT_ACCEPTED,
        Verdict.VERDICT_REJECTED,
        Verdict.VERDICT_DUPLICATE,
    ]
    assert verdicts[1].failure_reason == FailureReason.FAILURE_REASON_MISSING_IDENTIFIER
    assert verdicts[1].detail
    assert record(stage, "s-1").received_time.ToNanoseconds() == NOW_NS


def test_consent_is_decided_as_at_the_http_door(grpc_stub: Any, stage: Stage) -> None:
    """A presented refusal filters, with its reason."""
    refusing = track("s-3")
    refusing.category_preferences["Analytics"] = False
    (verdict,) = collect(grpc_stub, refusing)
    assert (verdict.verdict, verdict.filter_reason) == (Verdict.VERDICT_FILTERED, FilterReason.FILTER_REASON_CONSENT)
    assert "s-3" not in stage.published()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), (grpc.StatusCode.UNAUTHENTICATED, "ERROR_REASON_MISSING_CREDENTIALS")),
        ((("x-write-key", "wrong"),), (grpc.StatusCode.UNAUTHENTICATED, "ERROR_REASON_UNKNOWN_WRITE_KEY")),
        ((("x-write-key-bin", "k1"),), (grpc.StatusCode.UNAUTHENTICATED, "ERROR_REASON_MISSING_CREDENTIALS")),
        ((KEY, ("authorization", "Bearer junk")), (grpc.StatusCode.UNAUTHENTICATED, "ERROR_REASON_INVALID_TOKEN")),
    ],
)
def test_credentials_are_metadata(
    grpc_stub: Any, metadata: tuple[tuple[str, Any], ...], expected: tuple[grpc.StatusCode, str]
) -> None:
    """Absent, wrong and broken ones are refused with the reasons of the HTTP door."""
    encoded = tuple((name, value.encode() if name.endswith("-bin") else value) for name, value in metadata)
    assert refusal(grpc_stub, track("s-4"), metadata=encoded) == expected


def test_a_bearer_token_proves_its_user(grpc_stub: Any, stage: Stage) -> None:
    """As at the HTTP door; the key may come as Basic user name as well."""
    bearer = SIGNER.sign("u1", "clew", lifetime_seconds=60).token
    collect(grpc_stub, track("s-5", user_id="u1"), metadata=(KEY, ("authorization", f"Bearer {bearer}")))
    assert record(stage, "s-5").assurance == Assurance.ASSURANCE_VERIFIED
    collect(grpc_stub, track("s-6", user_id="u1"), metadata=(("authorization", "Basic azE6"),))
    assert record(stage, "s-6").assurance == Assurance.ASSURANCE_ASSERTED


def test_an_identity_token_is_used_and_not_kept(grpc_stub: Any, stage: Stage) -> None:
    """It proves its event, and stands neither in the record nor in a failed one."""
    token = SIGNER.sign("u1", "clew", lifetime_seconds=60).token
    collect(grpc_stub, track("s-7", user_id="u1", identity_token=token), track("s-8", event="", identity_token=token))
    assert record(stage, "s-7").assurance == Assurance.ASSURANCE_VERIFIED
    everything = [record for topic in ("clew.events.v1", "clew.events.failed.v1") for record in stage.bus.read(topic)]
    assert not any(token.encode() in record.value for record in everything)


def test_an_empty_request_breaks_the_contract(grpc_stub: Any) -> None:
    """The contract says one event at least, 2,500 at most."""
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_ARGUMENT")
    assert refusal(grpc_stub, metadata=(KEY,)) == expected
    assert refusal(grpc_stub, *[track("m")] * 2_501, metadata=(KEY,)) == expected


def test_a_failing_service_is_unavailable(grpc_stub: Any, stage: Stage) -> None:
    """Nothing was acknowledged: the reason is that of the stage that failed, and the caller may try again."""
    stage.identity.script.error = StorageUnavailable()
    try:
        expected = (grpc.StatusCode.UNAVAILABLE, "ERROR_REASON_STORAGE_UNAVAILABLE")
        assert refusal(grpc_stub, track("s-9"), metadata=(KEY,)) == expected
    finally:
        stage.identity.script.error = None


def test_numbers_in_properties_keep_every_digit(grpc_stub: Any, stage: Stage) -> None:
    """JSON in a typed event is text from end to end."""
    text = json.dumps({"n": 2**53 + 1})
    collect(grpc_stub, track("s-10", properties_json=text))
    assert record(stage, "s-10").properties_json == text


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:203.0.113.7:50123", "203.0.113.7"),
        ("ipv6:%5B2001:db8::1%5D:50123", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:50123", "2001:db8::1"),
        ("unix:/run/clew.sock", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_peer(peer: str, address: str) -> None:
    """What gRPC calls a peer, as an address; other transports have none."""
    assert _peer_ip(peer) == address


def test_a_source_that_sends_too_much_is_told_so(grpc_stub: Any, stage: Stage) -> None:
    """RESOURCE_EXHAUSTED with the reason, for events beyond its rate; none of them is published."""
    metadata = (("x-write-key", "slow"),)
    assert len(collect(grpc_stub, track("slow-1"), metadata=metadata)) == 1
    assert refusal(grpc_stub, track("slow-2"), metadata=metadata) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "ERROR_REASON_RATE_LIMITED",
    )
    assert "slow-1" in stage.published()
    assert "slow-2" not in stage.published()
