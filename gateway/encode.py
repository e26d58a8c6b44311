"""Kafka records from decided events.

The parts of an event that repeat from event to event (context, enrichment, decision) arrive serialized and are
appended as fields of the
message: protobuf fields may stand in any order, and appending bytes is several times cheaper than building and
serializing the parts anew.
A test reads the result back with Confluent's own deserializer.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from opentelemetry.trace import SpanContext

from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from clew.event.v1.event_pb2 import Warning as EventWarning
from clew.event.v1.failed_event_pb2 import FailedEvent
from gateway.batch import Allowed, Owned, Submission
from gateway.claims.port import ORIGIN_HEADER
from gateway.decode.types import RejectedEvent
from mesh.bus.framing import frame_prefix
from mesh.bus.port import Record
from mesh.tracecontext import format_traceparent
from mesh.wire import part_tag, varint

EVENTS_TOPIC = "clew.events.v1"
FAILED_TOPIC = "clew.events.failed.v1"
TOPICS = (EVENTS_TOPIC, FAILED_TOPIC)
"""What becomes of events: these topics are what is claimed, counted and recovered."""
PROFILES_TOPIC = "clew.profiles.v1"
SCHEMA_VERSION = "1.1.0"
"""Semantic version of the event contracts: minor for new fields, major never within `v1`."""

_NANOS = 1_000_000_000
_CE_TYPES: Final = {
    number: b"dev.clew.event." + name.removeprefix("EVENT_TYPE_").lower().encode() for name, number in EventType.items()
}
_MOST_REMEMBERED_BYTES: Final = 2048
_Headers = list[tuple[str, bytes]]


_CONTEXT = part_tag(EnrichedEvent, "context")
_ENRICHMENT = part_tag(EnrichedEvent, "enrichment")
_CONSENT = part_tag(EnrichedEvent, "consent")


def _appended(tag: bytes, part: bytes) -> bytes:
    """A serialized part as a field."""
    return _remembered(tag, part) if len(part) <= _MOST_REMEMBERED_BYTES else _field(tag, part)


def _field(tag: bytes, part: bytes) -> bytes:
    return b"".join((tag, varint(len(part)), part)) if part else b""


# Parts are shared between events: small ones are looked up more often than made.
_remembered = lru_cache(maxsize=1024)(_field)


class Encoder:
    """Makes records; it holds what is the same for all of them: topics, schema ids and constant headers.

    `origin` names this gateway on its records.
    """

    def __init__(
        self, *, event_schema_id: int, failed_schema_id: int, origin: str = "", topic_prefix: str = ""
    ) -> None:
        self._events_topic = topic_prefix + EVENTS_TOPIC
        self._failed_topic = topic_prefix + FAILED_TOPIC
        self._event_prefix = frame_prefix(event_schema_id)
        self._failed_prefix = frame_prefix(failed_schema_id)
        self._event_headers = constant_headers(EnrichedEvent.DESCRIPTOR.full_name, origin)
        self._failed_headers = constant_headers(FailedEvent.DESCRIPTOR.full_name, origin)

    def events(self, items: Sequence[Allowed], enrichments: Sequence[bytes], epochs: Mapping[str, int]) -> list[Record]:
        """The records of events for the events topic, in order.

        Args:
            items: The events; each is keyed by its profile.
            enrichments: The serialized enrichment of each.
            epochs: How many merged profiles a profile has, where any.

        """
        # One step for all events after the other: see `gateway/together.py`.
        messages = [_scalars(item, epochs.get(item.identity.profile_id, 0)) for item in items]
        scalars = [message.SerializeToString() for message in messages]
        decisions = _serialized([item.decision for item in items])
        prefix = self._event_prefix
        values = [
            b"".join(
                (
                    prefix,
                    scalar,
                    _appended(_CONTEXT, item.owned.event.context.serialized),
                    _appended(_ENRICHMENT, enrichment),
                    _appended(_CONSENT, decision),
                )
            )
            for item, scalar, enrichment, decision in zip(items, scalars, enrichments, decisions, strict=True)
        ]
        headers = self._headers(items, [message.profile_epoch for message in messages])
        topic = self._events_topic
        return [
            Record(topic, item.identity.profile_id.encode(), value, fields)
            for item, value, fields in zip(items, values, headers, strict=True)
        ]

    def _headers(self, items: Sequence[Allowed], epochs: Sequence[int]) -> Iterator[_Headers]:
        last: Submission | None = None
        shared: _Headers = []
        for item, epoch in zip(items, epochs, strict=True):
            event, submission = item.owned
            if submission is not last:
                last, source = submission, submission.source
                shared = [
                    *self._event_headers,
                    ("traceparent", traceparent(submission.trace)),
                    ("ce_source", _ce_source(source.workspace, source.name)),
                ]
            message_id = event.message_id.encode()
            yield [
                *shared,
                ("clew-message-id", message_id),
                ("clew-consent-epoch", b"%d" % item.decision.epoch),
                ("clew-profile-epoch", b"%d" % epoch),
                ("ce_id", message_id),
                ("ce_type", _CE_TYPES[event.type]),
            ]

    def failed(self, rejected: RejectedEvent, submission: Submission) -> Record:
        """The record of a refused event for the failed events topic, keyed by its source."""
        source = submission.source
        message = FailedEvent(
            message_id=rejected.message_id,
            workspace=source.workspace,
            source=source.name,
            reason=rejected.reason,
            detail=rejected.detail,
            payload=rejected.payload,
            payload_size_bytes=rejected.size,
            index=rejected.index,
        )
        _set_time(message.received_time, submission.received_ns)
        message_id = rejected.message_id.encode()
        headers = [
            *self._failed_headers,
            ("traceparent", traceparent(submission.trace)),
            ("clew-message-id", message_id),
            ("ce_id", message_id or b"%d-%d" % (submission.received_ns, rejected.index)),
            ("ce_source", _ce_source(source.workspace, source.name)),
            ("ce_type", b"dev.clew.event.failed"),
        ]
        return Record(
            self._failed_topic, source.name.encode(), self._failed_prefix + message.SerializeToString(), headers
        )


def _serialized(decisions: Sequence[ConsentDecision]) -> list[bytes]:
    """Each decision's bytes; events of one profile share theirs."""
    known: dict[int, bytes] = {}
    for decision in decisions:
        if id(decision) not in known:
            known[id(decision)] = decision.SerializeToString()
    return [known[id(decision)] for decision in decisions]


def constant_headers(full_name: str, origin: str) -> list[tuple[str, bytes]]:
    """The headers that are the same on all records of a type."""
    return [
        (ORIGIN_HEADER, origin.encode()),
        ("clew-schema", f"{full_name};{SCHEMA_VERSION}".encode()),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/protobuf"),
    ]


@lru_cache(maxsize=1024)
def _ce_source(workspace: str, source: str) -> bytes:
    return f"/workspaces/{workspace}/sources/{source}".encode()


def traceparent(context: SpanContext) -> bytes:
    """The trace that a record continues: its request's."""
    return format_traceparent(context).encode()


def _scalars(item: Allowed, epoch: int) -> EnrichedEvent:
    event, submission = item.owned
    source = submission.source
    message = EnrichedEvent(
        message_id=event.message_id,
        workspace=source.workspace,
        source=source.name,
        type=event.type,
        profile_id=item.identity.profile_id,
        profile_epoch=epoch,
        assurance=item.identity.assurance,
        anonymous_id=event.anonymous_id,
        user_id=event.user_id,
        group_id=event.group_id,
        previous_id=event.previous_id,
        event=event.event,
        name=event.name,
        category=event.category,
        properties_json=event.properties_json,
        traits_json=event.traits_json,
        integrations_json=event.integrations_json,
        extra_json=event.extra_json,
        event_time_source=event.event_time_source,
        warnings=_warnings(item),
    )
    _set_time(message.received_time, submission.received_ns)
    _set_time(message.event_time, event.event_time_ns)
    if event.original_time_ns is not None:
        _set_time(message.original_time, event.original_time_ns)
    if event.sent_time_ns is not None:
        _set_time(message.sent_time, event.sent_time_ns)
    return message


def _warnings(item: Allowed) -> list[EventWarning.ValueType]:
    warnings = item.owned.event.warnings
    if item.identity.conflict:
        return [*warnings, EventWarning.WARNING_IDENTITY_CONFLICT]
    return warnings


def _set_time(field: object, unix_ns: int) -> None:
    field.seconds, field.nanos = divmod(unix_ns, _NANOS)  # type: ignore[attr-defined]


def owned_events(submissions: list[Submission]) -> list[Owned]:
    """The good events of all submissions, in order of arrival."""
    return [Owned(event, submission) for submission in submissions for event in submission.decoded.events]
