"""One event: a client's JSON object into a `DecodedEvent`, or the reason why not.

A strict parse gives the small values and proves that the text can be trusted; properties, traits and the like stay the
text that came, sliced out by a second, much cheaper pass, so that every digit of a number survives.
"""

from typing import Any, Final

from msgspec import Raw, Struct

from clew.event.v1.event_pb2 import (
    EVENT_TYPE_ALIAS,
    EVENT_TYPE_GROUP,
    EVENT_TYPE_IDENTIFY,
    EVENT_TYPE_PAGE,
    EVENT_TYPE_SCREEN,
    EVENT_TYPE_TRACK,
    WARNING_CONTEXT_TYPE,
    WARNING_INVALID_TIMESTAMP,
    WARNING_MESSAGE_ID_MINTED,
    WARNING_NON_FINITE_NUMBER,
    EventType,
)
from clew.event.v1.event_pb2 import Warning as EventWarning
from clew.event.v1.failed_event_pb2 import (
    FAILURE_REASON_INVALID_FIELD,
    FAILURE_REASON_MALFORMED_JSON,
    FAILURE_REASON_UNKNOWN_TYPE,
)
from gateway.decode.context import decode_context
from gateway.decode.errors import Rejection
from gateway.decode.rules import check_identifier, check_size, check_subject
from gateway.decode.text import MEMBERS, PARTS, Parts, is_deeper, join_members, join_objects, parse_strict, too_deep
from gateway.decode.times import parse_time, resolve_event_time
from gateway.decode.types import (
    EMPTY_CONTEXT,
    MAX_DEPTH,
    MAX_ID_CHARS,
    MAX_MESSAGE_ID_CHARS,
    DecodedContext,
    DecodedEvent,
)
from mesh.ids import new_id

_TYPES: Final[dict[str, EventType.ValueType]] = {
    "track": EVENT_TYPE_TRACK,
    "identify": EVENT_TYPE_IDENTIFY,
    "page": EVENT_TYPE_PAGE,
    "screen": EVENT_TYPE_SCREEN,
    "group": EVENT_TYPE_GROUP,
    "alias": EVENT_TYPE_ALIAS,
}
# `writeKey` is here because it is no part of the event: some libraries repeat the credential in each.
_KNOWN: Final = frozenset(
    {
        "anonymousId",
        "category",
        "context",
        "event",
        "groupId",
        "integrations",
        "messageId",
        "name",
        "originalTimestamp",
        "previousId",
        "properties",
        "sentAt",
        "timestamp",
        "traits",
        "type",
        "userId",
        "writeKey",
    }
)


class Surroundings(Struct, frozen=True, eq=False, gc=False, kw_only=True):
    """What the request says for all its events.

    `type` overrides that of the events, `default_type` stands in where an event names none. So does `sent_ns`, the time
    of sending; `sent_unreadable`: the request names one that cannot be read. `context` and `integrations` are texts of
    objects, empty when absent; an event's own members go before theirs.
    """

    received_ns: int
    type: EventType.ValueType | None = None
    default_type: EventType.ValueType | None = None
    sent_ns: int | None = None
    sent_unreadable: bool = False
    context: bytes = b""
    integrations: bytes = b""


def decode_event(text: bytes, index: int, around: Surroundings, parts: Parts | None = None) -> DecodedEvent:
    """Decode one event, of which the parts may be known already.

    Raises:
        Rejection: It cannot be accepted.
    """
    check_size(len(text))
    text, members, mended = parse_strict(text)
    if type(members) is not dict:
        raise Rejection(FAILURE_REASON_MALFORMED_JSON, "the event is no JSON object")
    warnings: list[EventWarning.ValueType] = [WARNING_NON_FINITE_NUMBER] if mended else []
    if parts is None or mended:
        parts = PARTS.decode(text)
    message_id = _identifier(members, "messageId", MAX_MESSAGE_ID_CHARS, text)
    if not message_id:
        message_id = new_id()
        warnings.append(WARNING_MESSAGE_ID_MINTED)
    call = _call(members, around)
    context = _context(members, parts.context, around)
    warnings += context.warnings
    traits_json = _object_text(members, "traits", parts.traits)
    # Some libraries give the traits of an identify call in its context only.
    if not traits_json and call == EVENT_TYPE_IDENTIFY:
        traits_json = context.traits_json
    original_ns, sent_ns = _times(members, around, warnings)
    event_time_ns, event_time_source = resolve_event_time(original_ns, sent_ns, around.received_ns)
    event = DecodedEvent(
        index=index,
        message_id=message_id,
        type=call,
        anonymous_id=_identifier(members, "anonymousId", MAX_ID_CHARS, text),
        user_id=_identifier(members, "userId", MAX_ID_CHARS, text),
        group_id=_identifier(members, "groupId", MAX_ID_CHARS, text),
        previous_id=_identifier(members, "previousId", MAX_ID_CHARS, text),
        event=_label(members, "event", text),
        name=_label(members, "name", text),
        category=_label(members, "category", text),
        properties_json=_object_text(members, "properties", parts.properties),
        traits_json=traits_json,
        context=context,
        integrations_json=_integrations(members, parts.integrations, around),
        extra_json=_extra(members, text, warnings),
        original_time_ns=original_ns,
        sent_time_ns=sent_ns,
        event_time_ns=event_time_ns,
        event_time_source=event_time_source,
        warnings=warnings,
    )
    check_subject(event)
    _check_depth(event, members)
    return event


def _call(members: dict[str, Any], around: Surroundings) -> EventType.ValueType:
    if around.type is not None:
        return around.type
    name = members.get("type")
    call = _TYPES.get(name) if type(name) is str else None
    if call is None and name is None:
        call = around.default_type
    if call is None:
        raise Rejection(FAILURE_REASON_UNKNOWN_TYPE, f"type is none of {', '.join(_TYPES)}")
    return call


def _identifier(members: dict[str, Any], key: str, most_chars: int, text: bytes) -> str:
    value = members.get(key)
    if value is None:
        return ""
    if type(value) is not str:
        value = _number_text(value, key, text)
    if len(value) > most_chars or "\0" in value:
        check_identifier(key, value, most_chars)
    # Blanks name nobody: all who send them would become one person.
    return "" if value.isspace() else value


def _label(members: dict[str, Any], key: str, text: bytes) -> str:
    value = members.get(key)
    if type(value) is str:
        return value
    return "" if value is None else _number_text(value, key, text)


def _number_text(value: object, key: str, text: bytes) -> str:
    if type(value) is int or type(value) is float:
        # As the client wrote it: a float would lose digits on the way.
        return bytes(MEMBERS.decode(text)[key]).decode()
    raise Rejection(FAILURE_REASON_INVALID_FIELD, f"{key} must be text")


def _object_text(members: dict[str, Any], key: str, raw: Raw) -> str:
    value = members.get(key)
    if type(value) is dict:
        return str(raw, "utf-8")
    # PHP writes an empty array for an empty object.
    if value is None or value == []:
        return ""
    raise Rejection(FAILURE_REASON_INVALID_FIELD, f"{key} must be an object")


def _context(members: dict[str, Any], raw: Raw, around: Surroundings) -> DecodedContext:
    own = bytes(raw) if type(members.get("context")) is dict else b""
    text = join_objects(around.context, own) if around.context else own
    return decode_context(text) if text else EMPTY_CONTEXT


def _integrations(members: dict[str, Any], raw: Raw, around: Surroundings) -> str:
    own = _object_text(members, "integrations", raw)
    return join_objects(around.integrations, own.encode()).decode() if around.integrations else own


def _times(
    members: dict[str, Any], around: Surroundings, warnings: list[EventWarning.ValueType]
) -> tuple[int | None, int | None]:
    """The client's times: when it happened, by either name, and when it was sent, by the event or else the request."""
    original = members.get("originalTimestamp")
    if original is None:
        original = members.get("timestamp")
    original_ns = None if original is None else parse_time(original)
    unreadable = original_ns is None and original is not None
    sent = members.get("sentAt")
    if sent is None:
        sent_ns = around.sent_ns
        unreadable |= around.sent_unreadable
    else:
        sent_ns = parse_time(sent)
        unreadable |= sent_ns is None
    if unreadable:
        warnings.append(WARNING_INVALID_TIMESTAMP)
    return original_ns, sent_ns


def _extra(members: dict[str, Any], text: bytes, warnings: list[EventWarning.ValueType]) -> str:
    """The members that have no field, as text; among them a context that is no object, and the second of two times."""
    keys = [] if members.keys() <= _KNOWN else [key for key in members if key not in _KNOWN]
    context = members.get("context")
    if type(context) is not dict and context is not None and context != []:
        keys.append("context")
        warnings.append(WARNING_CONTEXT_TYPE)
    if "originalTimestamp" in members and "timestamp" in members:
        keys.append("timestamp")
    if not keys:
        return ""
    raw = MEMBERS.decode(text)
    return join_members((key, bytes(raw[key]).decode()) for key in keys)


def _check_depth(event: DecodedEvent, members: dict[str, Any]) -> None:
    # Too few brackets to be too deep, nearly always: counting them costs a tenth of walking the values. The context was
    # checked by itself.
    text = event.properties_json + event.traits_json + event.integrations_json + event.extra_json
    if text.count("{") + text.count("[") >= MAX_DEPTH and is_deeper(members, MAX_DEPTH):
        raise too_deep()
