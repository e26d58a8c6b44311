"""Records: what consumers find in keys, headers and values, read back with stock tools."""

import pytest
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

from clew.consent.v1.consent_pb2 import ConsentBasis, ConsentDecision
from clew.enrich.v1.enrichment_pb2 import Client, Enrichment
from clew.event.v1.context_pb2 import Context, Page
from clew.event.v1.enriched_event_pb2 import EnrichedEvent, EventTimeSource
from clew.event.v1.event_pb2 import EventType
from clew.event.v1.event_pb2 import Warning as EventWarning
from clew.event.v1.failed_event_pb2 import FailedEvent, FailureReason
from clew.identity.v1.identifier_pb2 import Assurance
from clew.identity.v1.identity_service_pb2 import ResolvedIdentity
from clew.options.v1.privacy_pb2 import Purpose
from gateway.batch import Allowed, Owned, Submission
from gateway.decode.types import DecodedContext, DecodedEvent, DecodedRequest, RejectedEvent
from gateway.encode import Encoder
from gateway.sources import Source
from mesh.bus.port import Record
from mesh.wire import varint

SECOND = 1_000_000_000
TRACE = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(1))
CONTEXT = Context(page=Page(url="https://shop.example/p", title="P"), locale="en-GB", user_agent="UA")
ENRICHMENT = Enrichment(client=Client(browser="Chrome"))
DECISION = ConsentDecision(
    granted_purposes=[Purpose.PURPOSE_ESSENTIAL], epoch=7, basis=ConsentBasis.CONSENT_BASIS_RECORDED
)
PROFILE = "0192f0c1-7a1b-7c3d-8e4f-5a6b7c8d9e0f"


def _event(properties: str = '{"big":9007199254740993}', message_id: str = "m-1") -> DecodedEvent:
    return DecodedEvent(
        index=0,
        message_id=message_id,
        type=EventType.EVENT_TYPE_TRACK,
        anonymous_id="a",
        user_id="u",
        group_id="",
        previous_id="",
        event="Order Completed",
        name="",
        category="",
        properties_json=properties,
        traits_json="",
        context=DecodedContext(serialized=CONTEXT.SerializeToString()),
        integrations_json="",
        extra_json="",
        original_time_ns=5 * SECOND + 1,
        sent_time_ns=None,
        event_time_ns=5 * SECOND + 1,
        event_time_source=EventTimeSource.EVENT_TIME_SOURCE_ORIGINAL,
        warnings=[EventWarning.WARNING_NON_FINITE_NUMBER],
    )


def _submission(*events: DecodedEvent, rejected: tuple[RejectedEvent, ...] = ()) -> Submission:
    decoded = DecodedRequest(
        write_key="", events=list(events), rejected=list(rejected), count=len(events) + len(rejected)
    )
    return Submission(
        source=Source("shop", "web", frozenset({Purpose.PURPOSE_ANALYTICS})),
        decoded=decoded,
        trace=TRACE,
        received_ns=9 * SECOND + 500,
        client_ip="203.0.113.7",
        deadline=0.0,
        size=1,
    )


def _encoder() -> Encoder:
    return Encoder(event_schema_id=258, failed_schema_id=259, origin="g-1")


def _allowed(event: DecodedEvent, *, conflict: bool = False) -> Allowed:
    identity = ResolvedIdentity(profile_id=PROFILE, assurance=Assurance.ASSURANCE_ASSERTED, conflict=conflict)
    return Allowed(Owned(event, _submission(event)), identity, DECISION)


def _record_value(event: DecodedEvent) -> bytes:
    return _record(_allowed(event), ENRICHMENT.SerializeToString()).value


def _record(item: Allowed, enrichment: bytes = b"") -> Record:
    (record,) = _encoder().events([item], [enrichment], {})
    return record


def test_an_event_is_read_back_whole_by_the_stock_deserializer() -> None:
    """Confluent's own deserializer finds every part of the event, the appended ones among them."""
    event = _event()
    record = _record(_allowed(event), ENRICHMENT.SerializeToString())
    deserializer = ProtobufDeserializer(EnrichedEvent, {"use.deprecated.format": False})
    read = deserializer(record.value, SerializationContext(record.topic, MessageField.VALUE))
    assert read == EnrichedEvent(
        message_id="m-1",
        workspace="shop",
        source="web",
        type=EventType.EVENT_TYPE_TRACK,
        profile_id=PROFILE,
        assurance=Assurance.ASSURANCE_ASSERTED,
        anonymous_id="a",
        user_id="u",
        event="Order Completed",
        properties_json='{"big":9007199254740993}',
        context=CONTEXT,
        enrichment=ENRICHMENT,
        consent=DECISION,
        original_time=Timestamp(seconds=5, nanos=1),
        received_time=Timestamp(seconds=9, nanos=500),
        event_time=Timestamp(seconds=5, nanos=1),
        event_time_source=EventTimeSource.EVENT_TIME_SOURCE_ORIGINAL,
        warnings=[EventWarning.WARNING_NON_FINITE_NUMBER],
    )


def test_the_key_is_the_profile_and_the_headers_say_what_the_record_is() -> None:
    """Consumers route by key and headers without decoding the value; the trace goes on from the request's span."""
    record = _record(_allowed(_event()))
    assert record.topic == "clew.events.v1"
    assert record.key == PROFILE.encode()
    assert dict(record.headers) == {
        "clew-gateway": b"g-1",
        "clew-schema": b"clew.event.v1.EnrichedEvent;1.1.0",
        "ce_specversion": b"1.0",
        "content-type": b"application/protobuf",
        "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "clew-message-id": b"m-1",
        "clew-consent-epoch": b"7",
        "clew-profile-epoch": b"0",
        "ce_id": b"m-1",
        "ce_source": b"/workspaces/shop/sources/web",
        "ce_type": b"dev.clew.event.track",
    }


def test_an_identity_conflict_is_a_warning_on_the_record_and_not_on_the_shared_event() -> None:
    """The warning that identity gives is added for this record; what decode found stays what it was."""
    event = _event()
    record = _record(_allowed(event, conflict=True))
    read = EnrichedEvent.FromString(record.value[6:])
    assert list(read.warnings) == [EventWarning.WARNING_NON_FINITE_NUMBER, EventWarning.WARNING_IDENTITY_CONFLICT]
    assert event.warnings == [EventWarning.WARNING_NON_FINITE_NUMBER]


def test_a_failed_event_keeps_its_payload_its_reason_and_its_place() -> None:
    """Nothing is lost: the payload lies on the failed topic under its source, with a typed reason."""
    rejected = RejectedEvent(
        index=4,
        message_id="m-4",
        reason=FailureReason.FAILURE_REASON_TOO_DEEP,
        detail="nested too deep",
        payload=b'{"a":1}',
        size=7,
    )
    record = _encoder().failed(rejected, _submission(rejected=(rejected,)))
    read = FailedEvent.FromString(record.value[6:])
    assert (record.topic, record.key) == ("clew.events.failed.v1", b"web")
    assert (read.reason, read.payload, read.index) == (FailureReason.FAILURE_REASON_TOO_DEEP, b'{"a":1}', 4)
    assert read.received_time.ToNanoseconds() == 9 * SECOND + 500
    assert dict(record.headers)["clew-schema"] == b"clew.event.v1.FailedEvent;1.1.0"


@given(
    properties=st.text(st.characters(exclude_categories=["Cs"])), message_id=st.text(max_size=100).filter(str.isascii)
)
def test_free_form_text_arrives_as_it_was_sent(properties: str, message_id: str) -> None:
    """Properties are text from end to end: any of it comes back unchanged."""
    read = EnrichedEvent.FromString(_record_value(_event(properties, message_id))[6:])
    assert (read.properties_json, read.message_id) == (properties, message_id)
    assert read.context == CONTEXT


@pytest.mark.parametrize(("value", "encoded"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varints_are_protobufs(value: int, encoded: bytes) -> None:
    """The examples of the encoding specification."""
    assert varint(value) == encoded
