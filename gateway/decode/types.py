"""What the decode stage hands on: plain slotted values, in clew's names. The wire's own names end here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from clew.event.v1 import enriched_event_pb2, event_pb2, failed_event_pb2

MAX_EVENT_BYTES: Final = 32_768
"""Most bytes of one event's JSON text (the Segment specification's 32 KB)."""
MAX_BATCH_EVENTS: Final = 2_500
"""Most events of one request (the Segment specification); those beyond are rejected one by one."""
MAX_BATCH_ELEMENTS: Final = 5_000
"""Most elements of one request, good or bad: no client makes as many, and each costs a verdict."""
MAX_DEPTH: Final = 16
"""Most levels of objects and arrays in one event, the event itself being the first."""
MAX_MESSAGE_ID_CHARS: Final = 100
"""Most characters of a message id."""
MAX_ID_CHARS: Final = 256
"""Most characters of an anonymous, user, group or previous id."""
MAX_USER_AGENT_CHARS: Final = 2_048
"""Most characters of a user agent that enrichment looks at; the context keeps it whole."""
MAX_URL_CHARS: Final = 8_192
"""Most characters of a page's or referrer's URL that enrichment looks at; the context keeps it whole."""
MAX_LOCALE_CHARS: Final = 64
"""Most characters of a locale that enrichment looks at; the context keeps it whole."""
MAX_SHARED_BYTES: Final = 16_384
"""Most bytes that the context and integrations beside a batch add to each of its events."""
MAX_SHARED_BYTES_IN_ALL: Final = 8 << 20
"""Most bytes that they add to all events of a request together: a small body must not become a huge one."""
MAX_PAYLOAD_BYTES: Final = 524_288
"""Most bytes that are kept of a rejected event; of a longer one, the beginning."""

MALFORMED_PREFERENCES: Final[Mapping[str, bool]] = MappingProxyType({"<malformed>": False})
"""Stands for consent preferences that were presented and cannot be read.

No purpose is configured for the name, and a refused category that nobody knows takes every purpose away.
"""


class DecodedContext(Struct, frozen=True, eq=False, gc=False, kw_only=True):
    """The circumstances of an event: immutable, and one object for all events with the same context text.

    `serialized` is a `clew.event.v1.Context`, empty when there is none; address, identity token and consent are no part
    of it. `category_preferences` is None when none were presented, `MALFORMED_PREFERENCES` when they cannot be read.
    """

    serialized: bytes = b""
    user_agent: str = ""
    ip: str = ""
    page_url: str = ""
    page_referrer: str = ""
    locale: str = ""
    category_preferences: Mapping[str, bool] | None = None
    traits_json: str = ""
    identity_token: str = ""
    warnings: tuple[event_pb2.Warning.ValueType, ...] = ()


EMPTY_CONTEXT: Final = DecodedContext()
"""The context of an event that came without one."""


class DecodedEvent(Struct, eq=False, gc=False, kw_only=True):
    """One event that can be read and keeps the rules.

    Absent texts are empty; times are Unix nanoseconds; `index` is the place in the request, from 0; `warnings` holds
    those of the context as well.
    """

    index: int
    message_id: str
    type: event_pb2.EventType.ValueType
    anonymous_id: str
    user_id: str
    group_id: str
    previous_id: str
    event: str
    name: str
    category: str
    properties_json: str
    traits_json: str
    context: DecodedContext
    integrations_json: str
    extra_json: str
    original_time_ns: int | None
    sent_time_ns: int | None
    event_time_ns: int
    event_time_source: enriched_event_pb2.EventTimeSource.ValueType
    warnings: list[event_pb2.Warning.ValueType]


class RejectedEvent(Struct, eq=False, gc=False, kw_only=True):
    """One event that was refused. `payload`: what came, tokens removed, at most 512 KB; `size`: how many bytes came."""

    index: int
    message_id: str
    reason: failed_event_pb2.FailureReason.ValueType
    detail: str
    payload: bytes
    size: int


class DecodedRequest(Struct, eq=False, kw_only=True):
    """All events of one request: each of the `count` indices stands in one of the lists, in order."""

    write_key: str
    events: list[DecodedEvent]
    rejected: list[RejectedEvent]
    count: int
