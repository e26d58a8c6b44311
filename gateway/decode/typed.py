"""Events that came as messages (`CollectorService`) into the same `DecodedEvent` as JSON ones, under the same rules."""

from collections.abc import Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from clew.event.v1.context_pb2 import Context
from clew.event.v1.event_pb2 import (
    EVENT_TYPE_IDENTIFY,
    EVENT_TYPE_UNSPECIFIED,
    WARNING_INVALID_TIMESTAMP,
    WARNING_MESSAGE_ID_MINTED,
    WARNING_NON_FINITE_NUMBER,
    Event,
)
from clew.event.v1.event_pb2 import Warning as EventWarning
from clew.event.v1.failed_event_pb2 import FAILURE_REASON_INVALID_FIELD, FAILURE_REASON_UNKNOWN_TYPE
from gateway.decode.errors import Rejection
from gateway.decode.request import decode_all
from gateway.decode.rules import check_identifier, check_size, check_subject
from gateway.decode.scrub import scrub
from gateway.decode.text import is_deeper, parse_strict, too_deep
from gateway.decode.times import resolve_event_time, valid_time
from gateway.decode.types import (
    EMPTY_CONTEXT,
    MALFORMED_PREFERENCES,
    MAX_DEPTH,
    MAX_ID_CHARS,
    MAX_LOCALE_CHARS,
    MAX_MESSAGE_ID_CHARS,
    MAX_URL_CHARS,
    MAX_USER_AGENT_CHARS,
    DecodedContext,
    DecodedEvent,
    DecodedRequest,
    RejectedEvent,
)
from mesh.errors import InvalidArgument
from mesh.ids import new_id
from mesh.validation import validate

_MOST_CATEGORY_CHARS = 256


def decode_typed(events: Sequence[Event], received_ns: int) -> DecodedRequest:
    """Decode the events of a `CollectEventsRequest`, each by itself; the time of receipt is in Unix nanoseconds."""
    return decode_all(events, lambda event, index: _Reader(event).read(index, received_ns), _reject)


class _Reader:
    """Reads one message; JSON within it is checked as if it had come in a body."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._warnings: dict[EventWarning.ValueType, None] = {}

    def read(self, index: int, received_ns: int) -> DecodedEvent:
        """Answer the decoded event.

        Raises:
            Rejection: It cannot be accepted.
        """
        event = self._event
        self._check()
        message_id = _identifier("message_id", event.message_id, MAX_MESSAGE_ID_CHARS)
        if not message_id:
            message_id = new_id()
            self._warnings[WARNING_MESSAGE_ID_MINTED] = None
        context = self._context()
        traits_json = self._json("traits_json", event.traits_json)
        if not traits_json and event.type == EVENT_TYPE_IDENTIFY:
            traits_json = context.traits_json
        original_ns = self._time(event.original_time) if event.HasField("original_time") else None
        sent_ns = self._time(event.sent_time) if event.HasField("sent_time") else None
        event_time_ns, event_time_source = resolve_event_time(original_ns, sent_ns, received_ns)
        decoded = DecodedEvent(
            index=index,
            message_id=message_id,
            type=event.type,
            anonymous_id=_identifier("anonymous_id", event.anonymous_id, MAX_ID_CHARS),
            user_id=_identifier("user_id", event.user_id, MAX_ID_CHARS),
            group_id=_identifier("group_id", event.group_id, MAX_ID_CHARS),
            previous_id=_identifier("previous_id", event.previous_id, MAX_ID_CHARS),
            event=event.event,
            name=event.name,
            category=event.category,
            properties_json=self._json("properties_json", event.properties_json),
            traits_json=traits_json,
            context=context,
            integrations_json=self._json("integrations_json", event.integrations_json),
            extra_json=self._json("extra_json", event.extra_json),
            original_time_ns=original_ns,
            sent_time_ns=sent_ns,
            event_time_ns=event_time_ns,
            event_time_source=event_time_source,
            warnings=list(self._warnings),
        )
        check_subject(decoded)
        return decoded

    def _check(self) -> None:
        check_size(self._event.ByteSize())
        if self._event.type == EVENT_TYPE_UNSPECIFIED:
            raise Rejection(FAILURE_REASON_UNKNOWN_TYPE, "type is none of the six calls")
        try:
            validate(self._event)
        except InvalidArgument as error:
            field = error.metadata.get("field", "")
            raise Rejection(FAILURE_REASON_INVALID_FIELD, f"{field}: {error.detail}") from None

    def _context(self) -> DecodedContext:
        event = self._event
        preferences = _preferences(event.category_preferences)
        if not (event.HasField("context") or event.ip or event.identity_token) and preferences is None:
            return EMPTY_CONTEXT
        context = Context()
        context.CopyFrom(event.context)
        context.traits_json = self._json("context.traits_json", context.traits_json, MAX_DEPTH - 1)
        context.extra_json = self._json("context.extra_json", context.extra_json, MAX_DEPTH - 1)
        return DecodedContext(
            serialized=context.SerializeToString(),
            user_agent=context.user_agent[:MAX_USER_AGENT_CHARS],
            ip=event.ip,
            page_url=context.page.url[:MAX_URL_CHARS],
            page_referrer=context.page.referrer[:MAX_URL_CHARS],
            locale=context.locale[:MAX_LOCALE_CHARS],
            category_preferences=preferences,
            traits_json=context.traits_json,
            identity_token=event.identity_token,
        )

    def _json(self, field: str, text: str, levels: int = MAX_DEPTH) -> str:
        """Check the text of a JSON object, which stands one level below the object around it."""
        if not text:
            return ""
        try:
            raw, value, mended = parse_strict(text.encode())
        except Rejection as rejection:
            raise Rejection(rejection.reason, f"{field}: {rejection.detail}") from None
        if type(value) is not dict:
            raise Rejection(FAILURE_REASON_INVALID_FIELD, f"{field} must be an object")
        if is_deeper(value, levels - 1):
            raise too_deep()
        if not mended:
            return text
        self._warnings[WARNING_NON_FINITE_NUMBER] = None
        return raw.decode()

    def _time(self, timestamp: Timestamp) -> int | None:
        time_ns = valid_time(timestamp.seconds * 1_000_000_000 + timestamp.nanos)
        if time_ns is None:
            self._warnings[WARNING_INVALID_TIMESTAMP] = None
        return time_ns


def _identifier(field: str, value: str, most_chars: int) -> str:
    check_identifier(field, value, most_chars)
    return "" if value.isspace() else value


def _preferences(presented: Mapping[str, bool]) -> Mapping[str, bool] | None:
    if not presented:
        return None
    if any(len(name) > _MOST_CATEGORY_CHARS for name in presented):
        return MALFORMED_PREFERENCES
    return dict(presented)


def _reject(event: Event, index: int, rejection: Rejection) -> RejectedEvent:
    """Keep a refused message, serialized, without its token."""
    kept = Event()
    kept.CopyFrom(event)
    kept.ClearField("identity_token")
    return RejectedEvent(
        index=index,
        message_id=event.message_id if len(event.message_id) <= MAX_MESSAGE_ID_CHARS else "",
        reason=rejection.reason,
        detail=rejection.detail,
        payload=scrub(kept.SerializeToString()),
        size=event.ByteSize(),
    )
