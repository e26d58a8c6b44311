"""Failed events that are meant, each with what is to be sent in its place."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.json_format import MessageToJson, Parse, ParseError

from clew.admin.v1 import failed_event_service_pb2 as messages
from clew.event.v1.event_pb2 import Event
from clew.event.v1.failed_event_pb2 import FAILURE_REASON_UNKNOWN_TYPE, FailedEvent, FailureReason
from cli.records import name_of
from cli.topic.fixes import CannotFix, Fix
from cli.topic.records import Raw
from cli.topic.schemas import Read
from mesh.payload import message_in

MAX_CALL_EVENTS: Final = 200
MAX_CALL_BYTES: Final = 2 << 20
"""A call holds less than gRPC's 4 MiB."""
_MOST_EVENT_BYTES: Final = 32_768


@dataclass(slots=True)
class Candidate:
    """A failed event without its payload, what replaces it, and what the gateway made of it.

    `problem` says why it could not be mended here; then the gateway is not asked.
    """

    event: FailedEvent
    redrive: messages.Redrive
    problem: str = ""
    lacks_type: bool = False
    """Whether its payload names no type: the path that it was sent to may have."""
    result: messages.RedriveResult | None = None

    @property
    def status(self) -> messages.RedriveStatus.ValueType:
        """What became of it so far."""
        if self.problem:
            return messages.REDRIVE_STATUS_INVALID
        return self.result.status if self.result else messages.REDRIVE_STATUS_UNSPECIFIED

    @property
    def reason(self) -> str:
        """Why it failed, as people read it."""
        return name_of(FailureReason, self.event.reason, "FAILURE_REASON_")

    @property
    def detail(self) -> str:
        """What is wrong with it now, and what to do."""
        if self.problem or self.result is None:
            return self.problem
        detail = self.result.detail
        if self.result.failure_reason == FAILURE_REASON_UNKNOWN_TYPE and self.lacks_type:
            detail += "; the path that it was sent to may have said it: try --set type='\"track\"'"
        return detail


def candidates(found: Iterable[Read], fix: Fix | None) -> Iterator[Candidate]:
    """Failed events, mended; records that are none are left out."""
    for read in found:
        if isinstance(read.message, FailedEvent):
            yield mended(read.raw, read.message, fix)


def mended(raw: Raw, event: FailedEvent, fix: Fix | None) -> Candidate:
    """One of them."""
    candidate = Candidate(event, messages.Redrive(partition=raw.partition, offset=raw.offset))
    candidate.lacks_type = not _has_type(event.payload)
    try:
        if fix is not None:
            _replace(candidate.redrive, event.payload, fix)
    except CannotFix as error:
        candidate.problem = str(error)
    event.ClearField("payload")
    return candidate


def calls(pending: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """In groups of one workspace that a call can hold, in order."""
    group: list[Candidate] = []
    size = 0
    for candidate in pending:
        grown = candidate.redrive.ByteSize()
        other = group and group[0].event.workspace != candidate.event.workspace
        if group and (other or len(group) == MAX_CALL_EVENTS or size + grown > MAX_CALL_BYTES):
            yield group
            group, size = [], 0
        group.append(candidate)
        size += grown
    if group:
        yield group


def _replace(redrive: messages.Redrive, payload: bytes, fix: Fix) -> None:
    typed = message_in(payload, Event)
    before = payload if typed is None else MessageToJson(typed, indent=None).encode()
    after = fix(before)
    if after == before:
        return
    if len(after) > _MOST_EVENT_BYTES:
        raise CannotFix(f"the mended event has {len(after)} bytes, the limit is {_MOST_EVENT_BYTES}")
    if typed is not None:
        try:
            redrive.event.CopyFrom(Parse(after, Event()))
        except ParseError as error:
            raise CannotFix(f"the mended text is no clew.event.v1.Event: {error}") from error
        return
    try:
        redrive.event_json = after.decode()
    except UnicodeDecodeError as error:
        raise CannotFix("the mended text is no UTF-8; use --edit or --fix") from error


def _has_type(payload: bytes) -> bool:
    try:
        members = json.loads(payload)
    except (ValueError, RecursionError):
        return True
    return not isinstance(members, dict) or "type" in members
