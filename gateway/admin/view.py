"""What is shown of an event: what each stage made of it, and the event itself, redacted by its contract's options."""

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import json

from clew.admin.v1 import edge_debug_service_pb2 as messages
from clew.collector.v1.collector_service_pb2 import (
    VERDICT_DEFERRED,
    VERDICT_DUPLICATE,
    VERDICT_FILTERED,
    VERDICT_REJECTED,
    FilterReason,
)
from clew.errors.v1.errors_pb2 import ErrorReason
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent, FailureReason
from gateway.batch import Outcome
from gateway.decode.types import DecodedEvent, RejectedEvent
from gateway.tap import Seen
from mesh.redaction import redact

_NANOS: Final = 1_000_000_000
_UNREADABLE: Final = ErrorReason.Name(ErrorReason.ERROR_REASON_UNREADABLE_BODY)
_WENT_AWAY: Final = (ErrorReason.Name(ErrorReason.ERROR_REASON_CANCELLED), "the sender went away")

_Stage = messages.Stage
_PASSED = messages.STAGE_STATUS_PASSED
_ALL: Final = (
    _Stage.STAGE_ADMIT,
    _Stage.STAGE_DECODE,
    _Stage.STAGE_RESOLVE,
    _Stage.STAGE_DECIDE,
    _Stage.STAGE_ENRICH,
    _Stage.STAGE_PUBLISH,
)


def edge_event(seen: Seen) -> messages.EdgeEvent:
    """What a watcher is shown."""
    source, event = seen.source, seen.event
    return messages.EdgeEvent(
        workspace="" if source is None else source.workspace,
        source="" if source is None else source.name,
        message_id="" if event is None else event.message_id,
        trace_id=f"{seen.trace.trace_id:032x}",
        receive_time=_time(seen.received_ns),
        verdict=seen.verdict,
        stages=stages_of(seen),
        event_json="" if event is None else json.encode(redact(_message(seen, event))).decode(),
    )


def stages_of(seen: Seen) -> list[messages.StageVerdict]:
    """What each stage that the event reached made of it, in order."""
    stop = _stop(seen)
    if stop is not None:
        stages = [*_passed(stop.stage), stop]
        # It had its verdict, and then that could not be kept or told.
        return stages if seen.answered else [*stages, _failure(seen, _Stage.STAGE_PUBLISH)]
    if seen.verdict == VERDICT_DEFERRED:
        # It is shown again, with its other verdict, when it is released.
        return _passed(_last_reached(seen))
    if seen.answered:
        return [*_passed(_Stage.STAGE_PUBLISH), messages.StageVerdict(stage=_Stage.STAGE_PUBLISH, status=_PASSED)]
    last = _last_reached(seen)
    return [*_passed(last), _failure(seen, last)]


def _stop(seen: Seen) -> messages.StageVerdict | None:
    """The stage that ended the event's way with a verdict; None when none did."""
    event, outcome = seen.event, seen.outcome
    if isinstance(event, RejectedEvent):
        return _stopped(_Stage.STAGE_DECODE, FailureReason.Name(event.reason), event.detail)
    if outcome is None:
        return None
    if outcome.verdict == VERDICT_FILTERED:
        return _stopped(_Stage.STAGE_DECIDE, _reason(outcome), outcome.detail)
    if seen.verdict in {VERDICT_REJECTED, VERDICT_DUPLICATE}:
        # What is not found to be so while it is read is found so in place of publishing it.
        return _stopped(_Stage.STAGE_PUBLISH, _reason(outcome), outcome.detail)
    return None


def _last_reached(seen: Seen) -> _Stage.ValueType:
    """The stage that a request that failed had reached with this event."""
    if seen.event is None:
        return _Stage.STAGE_DECODE if seen.failure[0] == _UNREADABLE else _Stage.STAGE_ADMIT
    notes = seen.notes
    if notes.identity is None:
        return _Stage.STAGE_RESOLVE
    if notes.decision is None:
        return _Stage.STAGE_DECIDE
    return _Stage.STAGE_ENRICH if notes.enrichment is None else _Stage.STAGE_PUBLISH


def _passed(until: _Stage.ValueType) -> list[messages.StageVerdict]:
    """All stages before one, each passed."""
    return [messages.StageVerdict(stage=stage, status=_PASSED) for stage in _ALL[: _ALL.index(until)]]


def _stopped(stage: _Stage.ValueType, reason: str, detail: str) -> messages.StageVerdict:
    return messages.StageVerdict(stage=stage, status=messages.STAGE_STATUS_STOPPED, reason=reason, detail=detail)


def _failure(seen: Seen, stage: _Stage.ValueType) -> messages.StageVerdict:
    reason, detail = seen.failure if seen.failure[0] else _WENT_AWAY
    return messages.StageVerdict(stage=stage, status=messages.STAGE_STATUS_FAILED, reason=reason, detail=detail)


def _reason(outcome: Outcome) -> str:
    if outcome.failure_reason:
        return FailureReason.Name(outcome.failure_reason)
    return FilterReason.Name(outcome.filter_reason) if outcome.filter_reason else ""


def _message(seen: Seen, event: DecodedEvent | RejectedEvent) -> EnrichedEvent | FailedEvent:
    if isinstance(event, DecodedEvent):
        return _enriched(seen, event)
    return FailedEvent(
        message_id=event.message_id,
        reason=event.reason,
        detail=event.detail,
        payload_size_bytes=event.size,
        index=event.index,
        received_time=_time(seen.received_ns),
    )


def _enriched(seen: Seen, event: DecodedEvent) -> EnrichedEvent:
    """The event as far as it got, in the form of a record of the events topic."""
    message = EnrichedEvent(
        message_id=event.message_id,
        type=event.type,
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
        warnings=event.warnings,
        received_time=_time(seen.received_ns),
        event_time=_time(event.event_time_ns),
        original_time=_time(event.original_time_ns),
        sent_time=_time(event.sent_time_ns),
    )
    if event.context.serialized:
        message.context.MergeFromString(event.context.serialized)
    notes = seen.notes
    if notes.identity is not None:
        message.profile_id, message.assurance = notes.identity.profile_id, notes.identity.assurance
    if notes.decision is not None:
        message.consent.CopyFrom(notes.decision)
    if notes.enrichment:
        message.enrichment.MergeFromString(notes.enrichment)
    return message


def _time(unix_ns: int | None) -> Timestamp | None:
    return None if unix_ns is None else Timestamp(seconds=unix_ns // _NANOS, nanos=unix_ns % _NANOS)
