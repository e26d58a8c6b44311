"""The ledger by RPC: the whole path from an event to its count, for those who may ask."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from google.protobuf.timestamp_pb2 import Timestamp

from clew.collector.v1.collector_service_pb2 import FilterReason
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.ledger.v1.ledger_pb2 import FilteredCount, LedgerEntry, RejectedCount
from clew.ledger.v1.ledger_service_pb2 import GRANULARITY_MINUTE, GetLedgerRequest, GetLedgerResponse
from clew.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub, add_LedgerServiceServicer_to_server
from gateway.admission import Admission
from gateway.ledger.service import LedgerServicer, is_balanced, ledger_entries, oldest
from gateway.ledger.tally import PUBLISHED, RECEIVED, Cell
from gateway.sources import Sources, hash_key
from mesh.interceptors.server import ServerInterceptor
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, Verifier
from mesh.telemetry import start_telemetry
from tests.gateway.claims.test_claims import send, track
from tests.gateway.scripted import RECEIVED_NS, SOURCE, Stage, running_stage
from tests.support.grpc_fixtures import BackgroundLoop, grpc_addr, grpc_loop, grpc_server  # noqa: F401

SIGNER = Signer(generate_private_key(SECP256R1()), "https://clew.test")
MINUTE = RECEIVED_NS // 60_000_000_000 * 60
BAD_TYPE = RejectedCount(reason=FailureReason.FAILURE_REASON_UNKNOWN_TYPE, count=1)
NO_CONSENT = FilteredCount(reason=FilterReason.FILTER_REASON_CONSENT, count=1)


@pytest.fixture(scope="module")
def stage(grpc_loop: BackgroundLoop) -> Iterator[Stage]:  # noqa: F811 - pytest finds fixtures by name
    """A pipeline that has carried one event of each fate."""
    stack = AsyncExitStack()
    stage = grpc_loop.run(stack.enter_async_context(running_stage()))
    stage.consent.refused = {"p-no"}
    grpc_loop.run(send(stage, track("m-1"), {"type": "nonsense"}, track("m-2", anonymousId="no")))
    grpc_loop.run(send(stage, track("m-1")))
    yield stage
    grpc_loop.run(stack.aclose())


@pytest.fixture(scope="module")
def grpc_servicer(stage: Stage) -> LedgerServicer:
    """The servicer that pytest-grpc serves."""
    tokens = IssuerVerifiers([Verifier("https://clew.test", "clew", JwksSource.fixed(SIGNER.jwks()))])
    return LedgerServicer(Admission(Sources({hash_key("k1"): SOURCE}), tokens), stage.claims)


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[ServerInterceptor]:
    """What stands around every rpc of a running process."""
    return [ServerInterceptor(start_telemetry("gateway", None, {"OTEL_SDK_DISABLED": "true"}))]


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return add_LedgerServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    """The stub that pytest-grpc calls it with."""
    return LedgerServiceStub


def ask(stub: Any, scopes: list[str] | None = None, **fields: Any) -> GetLedgerResponse:
    """Ask with a token of these scopes."""
    scopes = ["clew.admin"] if scopes is None else scopes
    token = SIGNER.sign("ops", "clew", scopes=scopes, lifetime_seconds=60).token
    metadata = (("authorization", f"Bearer {token}"),)
    answer: GetLedgerResponse = stub.GetLedger(GetLedgerRequest(**fields), metadata=metadata)
    return answer


def test_each_fate_is_counted_and_it_adds_up(grpc_stub: Any) -> None:
    """Received = published + duplicate + rejected(reason) + filtered(reason) + in flight."""
    assert ask(grpc_stub) == GetLedgerResponse(
        entries=[
            LedgerEntry(
                workspace="shop",
                source="web",
                received=4,
                published=1,
                duplicate=1,
                rejected=[BAD_TYPE],
                filtered=[NO_CONSENT],
            )
        ],
        balanced=True,
    )


def test_minutes_are_those_in_which_the_events_were_received(grpc_stub: Any) -> None:
    """A range begins with its first minute and ends before its last."""
    begin, end = Timestamp(seconds=MINUTE), Timestamp(seconds=MINUTE + 60)
    (entry,) = ask(grpc_stub, start_time=begin, end_time=end, granularity=GRANULARITY_MINUTE).entries
    assert (entry.minute_time.seconds, entry.received) == (MINUTE, 4)
    assert list(ask(grpc_stub, start_time=end).entries) == []
    assert list(ask(grpc_stub, end_time=begin).entries) == []


def test_other_sources_and_workspaces_are_left_out(grpc_stub: Any) -> None:
    """What is asked for only."""
    assert len(ask(grpc_stub, workspace="shop", source="web").entries) == 1
    assert list(ask(grpc_stub, source="app").entries) == []
    assert list(ask(grpc_stub, workspace="blog").entries) == []


@pytest.mark.parametrize(
    ("scopes", "code"), [([], grpc.StatusCode.PERMISSION_DENIED), (None, grpc.StatusCode.UNAUTHENTICATED)]
)
def test_only_administrators_may_ask(grpc_stub: Any, scopes: list[str] | None, code: grpc.StatusCode) -> None:
    """No token, or one without the scope: nothing is told."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(grpc_stub, scopes) if scopes is not None else grpc_stub.GetLedger(GetLedgerRequest())
    error: Any = caught.value
    assert error.code() == code


def test_an_outcome_that_went_missing_shows() -> None:
    """The sum is checked against what was received, which is counted by itself."""
    place = Cell("shop", "web", 0, RECEIVED)
    (entry,) = ledger_entries({place: 3, place._replace(outcome=PUBLISHED): 2})
    assert not is_balanced(entry)
    (entry,) = ledger_entries({place: 2, place._replace(outcome=PUBLISHED): 2})
    assert is_balanced(entry)


def test_what_is_too_much_loses_its_newest_minutes_and_no_source() -> None:
    """Who asks on from the minute behind the last that was shown has missed nothing of any source."""
    tally = {Cell("shop", source, minute, RECEIVED): 1 for source in ("app", "web") for minute in range(1, 5)}
    entries = ledger_entries(tally)

    shown = [(entry.source, entry.minute_time.seconds // 60) for entry in oldest(entries, 5)]
    assert shown == [("app", 1), ("app", 2), ("web", 1), ("web", 2)]
    assert oldest(entries, 8) == entries
    # In total there are no minutes, and of a single minute there is nothing older.
    totals = ledger_entries({Cell("shop", source, 0, RECEIVED): 1 for source in "abc"})
    assert [entry.source for entry in oldest(totals, 2)] == ["a", "b"]


@pytest.mark.parametrize("field", ["workspace", "source"])
def test_a_name_that_no_store_can_look_for_is_refused(grpc_stub: Any, field: str) -> None:
    """PostgreSQL knows no text with a NUL: it is the caller's fault, and told as such."""
    fields: dict[str, Any] = {field: "a\0b"}
    with pytest.raises(grpc.RpcError) as caught:
        ask(grpc_stub, **fields)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
