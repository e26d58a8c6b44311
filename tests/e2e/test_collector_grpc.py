"""The gRPC door: the same pipeline as over HTTP, with credentials in metadata and rich statuses."""

import base64
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from clew.collector.v1.collector_service_pb2 import (
    FILTER_REASON_CONSENT,
    VERDICT_ACCEPTED,
    VERDICT_DUPLICATE,
    VERDICT_FILTERED,
    VERDICT_REJECTED,
    CollectEventsRequest,
    EventVerdict,
)
from clew.collector.v1.collector_service_pb2_grpc import CollectorServiceStub
from clew.event.v1.event_pb2 import EVENT_TYPE_ALIAS, EVENT_TYPE_PAGE, EVENT_TYPE_TRACK, Event, EventType
from clew.event.v1.failed_event_pb2 import (
    FAILURE_REASON_DUPLICATE_MESSAGE_ID,
    FAILURE_REASON_MISSING_FIELD,
    FAILURE_REASON_MISSING_IDENTIFIER,
)
from clew.identity.v1.identifier_pb2 import ASSURANCE_ASSERTED, ASSURANCE_VERIFIED
from mesh.ids import new_id
from tests.support.mesh import RunningMesh

Metadata = tuple[tuple[str, str | bytes], ...]


@pytest.fixture
def collector(mesh: RunningMesh) -> Iterator[CollectorServiceStub]:
    """A client of the gateway's gRPC address."""
    with grpc.insecure_channel(mesh.endpoints.grpc["gateway"]) as channel:
        yield CollectorServiceStub(channel)


@pytest.fixture
def write_key(mesh: RunningMesh) -> Metadata:
    """The write key, as metadata."""
    return (("x-write-key", mesh.endpoints.write_key),)


def _page(user_id: str = "") -> Event:
    return Event(message_id=new_id(), type=EVENT_TYPE_PAGE, anonymous_id=new_id(), user_id=user_id)


def _collect(collector: CollectorServiceStub, metadata: Metadata, *events: Event) -> list[EventVerdict]:
    request = CollectEventsRequest(events=events)
    return list(collector.CollectEvents(request, timeout=15, metadata=metadata).verdicts)


def _refusal(collector: CollectorServiceStub, metadata: Metadata, request: CollectEventsRequest) -> tuple[str, str]:
    """Status and reason of a refused call; it must carry exactly one `ErrorInfo`."""
    with pytest.raises(grpc.RpcError) as raised:
        collector.CollectEvents(request, timeout=15, metadata=metadata)
    assert isinstance(raised.value, grpc.Call)
    status = rpc_status.from_call(raised.value)
    assert status is not None, "no rich status"
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == len(status.details) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert info.domain == "clew.dev"
    assert status.message
    return raised.value.code().name, info.reason


def test_events_over_grpc_take_the_same_way(
    mesh: RunningMesh, collector: CollectorServiceStub, write_key: Metadata
) -> None:
    """A typed event is resolved, decided, enriched and published as one over HTTP, nothing of it lost."""
    visitor, original = new_id(), Timestamp(seconds=1_790_000_000, nanos=123_000_000)
    event = Event(
        message_id=new_id(),
        type=EVENT_TYPE_TRACK,
        anonymous_id=visitor,
        event="Order Completed",
        properties_json='{"total":9007199254740993}',
        original_time=original,
    )
    event.context.user_agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    (verdict,) = _collect(collector, write_key, event)
    assert (verdict.message_id, verdict.verdict) == (event.message_id, VERDICT_ACCEPTED)
    record = mesh.events.one(event.message_id)
    message = record.message
    assert record.key == message.profile_id
    assert (message.event, message.properties_json) == ("Order Completed", '{"total":9007199254740993}')
    assert (message.original_time, message.source) == (original, "default")
    assert message.enrichment.client.browser == "Firefox"
    over_http = {"type": "page", "anonymousId": visitor, "messageId": new_id()}
    mesh.edge.post(over_http)
    assert mesh.events.one(over_http["messageId"]).message.profile_id == message.profile_id


def test_each_event_has_its_verdict_in_order(
    mesh: RunningMesh, collector: CollectorServiceStub, write_key: Metadata
) -> None:
    """Good, repeated, bad and refused events of one call each have a typed verdict; the bad ones are kept."""
    good, nobody = _page(), Event(message_id=new_id(), type=EVENT_TYPE_PAGE)
    alias = Event(message_id=new_id(), type=EVENT_TYPE_ALIAS, user_id=new_id())
    refused = _page()
    for category in ("Analytics", "Advertising", "a category that is configured nowhere"):
        refused.category_preferences[category] = False
    verdicts = _collect(collector, write_key, good, good, nobody, alias, refused)
    assert [(verdict.message_id, verdict.verdict, verdict.failure_reason) for verdict in verdicts] == [
        (good.message_id, VERDICT_ACCEPTED, 0),
        (good.message_id, VERDICT_DUPLICATE, FAILURE_REASON_DUPLICATE_MESSAGE_ID),
        (nobody.message_id, VERDICT_REJECTED, FAILURE_REASON_MISSING_IDENTIFIER),
        (alias.message_id, VERDICT_REJECTED, FAILURE_REASON_MISSING_FIELD),
        (refused.message_id, VERDICT_FILTERED, 0),
    ]
    assert verdicts[4].filter_reason == FILTER_REASON_CONSENT
    assert all(verdict.detail for verdict in verdicts[1:])
    kept = mesh.failed.wait([nobody.message_id, alias.message_id])
    assert kept[nobody.message_id][0].message.reason == FAILURE_REASON_MISSING_IDENTIFIER
    assert refused.message_id not in {record.message.message_id for record in mesh.events.now()}


def test_all_six_calls_can_be_sent(mesh: RunningMesh, collector: CollectorServiceStub, write_key: Metadata) -> None:
    """Every type of event that the contract knows is accepted."""
    events = [
        Event(
            message_id=new_id(),
            type=EventType.ValueType(number),
            user_id=new_id(),
            group_id="g",
            previous_id=new_id(),
            event="e",
        )
        for number in EventType.values()
        if number
    ]
    verdicts = _collect(collector, write_key, *events)
    assert {verdict.verdict for verdict in verdicts} == {VERDICT_ACCEPTED}
    found = mesh.events.wait([event.message_id for event in events])
    assert [found[event.message_id][0].message.type for event in events] == [event.type for event in events]


def test_the_write_key_may_come_as_basic_credentials(mesh: RunningMesh, collector: CollectorServiceStub) -> None:
    """`authorization: Basic` with the write key as its user name is as good as `x-write-key`."""
    encoded = base64.b64encode(f"{mesh.endpoints.write_key}:".encode()).decode()
    (verdict,) = _collect(collector, (("authorization", f"Basic {encoded}"),), _page())
    assert verdict.verdict == VERDICT_ACCEPTED


def test_a_bearer_token_in_metadata_proves_its_subject(
    mesh: RunningMesh, collector: CollectorServiceStub, write_key: Metadata
) -> None:
    """Events of the token's subject are verified; one of somebody else, or without the token, is asserted."""
    user = new_id()
    metadata = (*write_key, ("authorization", f"Bearer {mesh.token(user)}"))
    proven, other, unproven = _page(user_id=user), _page(user_id=new_id()), _page(user_id=user)
    _collect(collector, metadata, proven, other)
    _collect(collector, write_key, unproven)
    found = mesh.events.wait([proven.message_id, other.message_id, unproven.message_id])
    assert [found[event.message_id][0].message.assurance for event in (proven, other, unproven)] == [
        ASSURANCE_VERIFIED,
        ASSURANCE_ASSERTED,
        ASSURANCE_ASSERTED,
    ]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "ERROR_REASON_MISSING_CREDENTIALS"),
        ((("authorization", "Basic ???"),), "ERROR_REASON_MISSING_CREDENTIALS"),
        ((("x-write-key", "nobody's"),), "ERROR_REASON_UNKNOWN_WRITE_KEY"),
    ],
)
def test_a_call_without_a_known_write_key_is_unauthenticated(
    collector: CollectorServiceStub, metadata: Metadata, reason: str
) -> None:
    """Missing, malformed and unknown write keys are UNAUTHENTICATED, with one reason that a program can read."""
    assert _refusal(collector, metadata, CollectEventsRequest(events=[_page()])) == ("UNAUTHENTICATED", reason)


def test_a_bad_token_is_unauthenticated(collector: CollectorServiceStub, write_key: Metadata) -> None:
    """A bearer token that does not hold refuses the call, as over HTTP."""
    metadata = (*write_key, ("authorization", "Bearer x.y.z"))
    refusal = _refusal(collector, metadata, CollectEventsRequest(events=[_page()]))
    assert refusal == ("UNAUTHENTICATED", "ERROR_REASON_INVALID_TOKEN")


@pytest.mark.parametrize("count", [0, 2501])
def test_a_call_that_breaks_the_contract_is_an_invalid_argument(
    collector: CollectorServiceStub, write_key: Metadata, count: int
) -> None:
    """A call without events, or with more than the contract allows, is INVALID_ARGUMENT."""
    request = CollectEventsRequest(events=[Event(type=EVENT_TYPE_PAGE, anonymous_id="a")] * count)
    assert _refusal(collector, write_key, request) == ("INVALID_ARGUMENT", "ERROR_REASON_INVALID_ARGUMENT")


def test_a_stage_that_does_not_answer_is_deadline_exceeded(
    mesh: RunningMesh, collector: CollectorServiceStub, write_key: Metadata
) -> None:
    """With a service frozen the call ends before the caller's patience does, as a refusal with a reason."""
    with mesh.stopped("enrich"):
        refusal = _refusal(collector, write_key, CollectEventsRequest(events=[_page()]))
    assert refusal == ("DEADLINE_EXCEEDED", "ERROR_REASON_DEADLINE_EXCEEDED")
    mesh.wait_serving()
