"""What the decode stage hands on: plain slotted values, in clew's names. The wire's own names end here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clew.event.v1 import enriched_event_pb2, event_pb2, failed_event_pb2

MAX_EVENT_BYTES: Final = 32_768
"""Most bytes of one event's JSON text (the Segment specification's 32 KB)."""
MAX_BATCH_EVENTS: Final = 2_500
"""Most events of one request; the rest of a larger one is rejected event by event."""
MAX_DEPTH: Final = 16
"""Most levels of objects and arrays in one event, the event itself being the first."""
MAX_MESSAGE_ID_CHARS: Final = 100
"""Most characters of a message id."""
MAX_ID_CHARS: Final = 256
"""Most characters of an anonymous, user, group or previous id."""
MAX_PAYLOAD_BYTES: Final = 524_288
"""Most bytes that are kept of a rejected event; of a longer one, the beginning."""

MALFORMED_PREFERENCES: Final[Mapping[str, bool]] = MappingProxyType({"<malformed>": False})
"""Stands for consent preferences that were presented and could not be read. Consent denies every purpose for an event that carries it."""


class DecodedContext:
    """The circumstances of an event. Immutable and shared: every event with the same context text holds the same object.

    `serialized` is a serialized `clew.event.v1.Context`, empty when there is none. Address, identity token and consent are not part of it.
    `category_preferences` is None when the client presented none, `MALFORMED_PREFERENCES` when what it presented cannot be read.
    """

    __slots__ = (
        "category_preferences",
        "identity_token",
        "ip",
        "locale",
        "page_referrer",
        "page_url",
        "serialized",
        "traits_json",
        "user_agent",
        "warnings",
    )

    def __init__(
        self,
        *,
        serialized: bytes = b"",
        user_agent: str = "",
        ip: str = "",
        page_url: str = "",
        page_referrer: str = "",
        locale: str = "",
        category_preferences: Mapping[str, bool] | None = None,
        traits_json: str = "",
        identity_token: str = "",
        warnings: tuple[event_pb2.Warning.ValueType, ...] = (),
    ) -> None:
        self.serialized = serialized
        self.user_agent = user_agent
        self.ip = ip
        self.page_url = page_url
        self.page_referrer = page_referrer
        self.locale = locale
        self.category_preferences = category_preferences
        self.traits_json = traits_json
        self.identity_token = identity_token
        self.warnings = warnings


EMPTY_CONTEXT: Final = DecodedContext()
"""The context of an event that came without one."""


class DecodedEvent:
    """One event that can be read and keeps the rules. Absent texts are empty; times are Unix nanoseconds; `index` counts from 0."""

    __slots__ = (
        "anonymous_id",
        "category",
        "context",
        "event",
        "event_time_ns",
        "event_time_source",
        "extra_json",
        "group_id",
        "index",
        "integrations_json",
        "message_id",
        "name",
        "original_time_ns",
        "previous_id",
        "properties_json",
        "sent_time_ns",
        "traits_json",
        "type",
        "user_id",
        "warnings",
    )

    def __init__(
        self,
        *,
        index: int,
        message_id: str,
        type: event_pb2.EventType.ValueType,  # noqa: A002 - the contract's word
        anonymous_id: str,
        user_id: str,
        group_id: str,
        previous_id: str,
        event: str,
        name: str,
        category: str,
        properties_json: str,
        traits_json: str,
        context: DecodedContext,
        integrations_json: str,
        extra_json: str,
        original_time_ns: int | None,
        sent_time_ns: int | None,
        event_time_ns: int,
        event_time_source: enriched_event_pb2.EventTimeSource.ValueType,
        warnings: list[event_pb2.Warning.ValueType],
    ) -> None:
        self.index = index
        self.message_id = message_id
        self.type = type
        self.anonymous_id = anonymous_id
        self.user_id = user_id
        self.group_id = group_id
        self.previous_id = previous_id
        self.event = event
        self.name = name
        self.category = category
        self.properties_json = properties_json
        self.traits_json = traits_json
        self.context = context
        self.integrations_json = integrations_json
        self.extra_json = extra_json
        self.original_time_ns = original_time_ns
        self.sent_time_ns = sent_time_ns
        self.event_time_ns = event_time_ns
        self.event_time_source = event_time_source
        self.warnings = warnings


class RejectedEvent:
    """One event that was refused. `payload` is what came, tokens removed, at most 512 KB; `size` counts the bytes that came."""

    __slots__ = ("detail", "index", "message_id", "payload", "reason", "size")

    def __init__(
        self,
        *,
        index: int,
        message_id: str,
        reason: failed_event_pb2.FailureReason.ValueType,
        detail: str,
        payload: bytes,
        size: int,
    ) -> None:
        self.index = index
        self.message_id = message_id
        self.reason = reason
        self.detail = detail
        self.payload = payload
        self.size = size


class DecodedRequest:
    """All events of one request, the good and the refused: each of the `count` indices stands in exactly one of the lists, in order."""

    __slots__ = ("count", "events", "rejected", "write_key")

    def __init__(
        self, *, write_key: str, events: list[DecodedEvent], rejected: list[RejectedEvent], count: int
    ) -> None:
        self.write_key = write_key
        self.events = events
        self.rejected = rejected
        self.count = count
