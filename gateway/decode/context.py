"""A client's `context` object into the typed `Context`, nothing lost: what has no field there goes to its `extra_json`.

Kept out of the message, because they must not reach a topic: the address, the identity token and the consent that is
presented. Client libraries repeat their context with every event, so results are shared by text.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from clew.event.v1.context_pb2 import Context
from clew.event.v1.event_pb2 import WARNING_CONTEXT_TYPE, WARNING_IDENTITY_TOKEN_INVALID
from clew.event.v1.event_pb2 import Warning as EventWarning
from gateway.decode.preferences import join_preferences, rudder_preferences, segment_preferences
from gateway.decode.text import MEMBERS, is_deeper, join_members, parse_strict, too_deep
from gateway.decode.types import (
    EMPTY_CONTEXT,
    MALFORMED_PREFERENCES,
    MAX_DEPTH,
    MAX_LOCALE_CHARS,
    MAX_URL_CHARS,
    MAX_USER_AGENT_CHARS,
    DecodedContext,
)

_MOST_TOKEN_CHARS: Final = 8_192
_MOST_IP_CHARS: Final = 45
_MOST_CACHED_BYTES: Final = 4_096
_CACHED_CONTEXTS: Final = 2_048
_INT32: Final = 2**31
_INT64: Final = 2**63


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_int32(value: object) -> bool:
    return type(value) is int and -_INT32 <= value < _INT32


def _is_int64(value: object) -> bool:
    return type(value) is int and -_INT64 <= value < _INT64


def _is_double(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or _is_int64(value)


class _Field(NamedTuple):
    """A field of the contract and what its value must be."""

    name: str
    accepts: Callable[[object], bool] = _is_text


def _texts(*names: str) -> dict[str, _Field]:
    return {name: _Field(name) for name in names}


_FIELDS: Final = {
    "groupId": _Field("group_id"),
    "locale": _Field("locale"),
    "sessionId": _Field("session_id", _is_int64),
    "timezone": _Field("timezone"),
    "userAgent": _Field("user_agent"),
}
_MESSAGES: Final[dict[str, dict[str, _Field]]] = {
    "app": _texts("name", "version", "build", "namespace"),
    "campaign": _texts("name", "source", "medium", "term", "content"),
    "device": {
        **_texts("id", "manufacturer", "model", "name", "type"),
        "advertisingId": _Field("advertising_id"),
        "adTrackingEnabled": _Field("ad_tracking_enabled", _is_bool),
    },
    "library": _texts("name", "version"),
    "location": {
        **_texts("city", "country", "region"),
        "latitude": _Field("latitude", _is_double),
        "longitude": _Field("longitude", _is_double),
    },
    "network": {
        "bluetooth": _Field("bluetooth", _is_bool),
        "carrier": _Field("carrier"),
        "cellular": _Field("cellular", _is_bool),
        "wifi": _Field("wifi", _is_bool),
    },
    "os": _texts("name", "version"),
    "page": _texts("path", "referrer", "search", "title", "url"),
    "referrer": _texts("id", "type", "name", "url", "link"),
    "screen": {
        "width": _Field("width", _is_int32),
        "height": _Field("height", _is_int32),
        "density": _Field("density", _is_double),
    },
}


def decode_context(text: bytes) -> DecodedContext:
    """Decode the text of a context object that a strict reader has accepted.

    Raises:
        Rejection: TOO_DEEP.
    """
    return _shared(text) if len(text) <= _MOST_CACHED_BYTES else _Reader(text).read()


@lru_cache(_CACHED_CONTEXTS)
def _shared(text: bytes) -> DecodedContext:
    return _Reader(text).read()


class _Reader:
    """Reads one context: fills the message, and gathers what has no place in it, as text."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._context = Context()
        self._left: dict[str, str] = {}
        self._warnings: dict[EventWarning.ValueType, None] = {}
        self._members: Mapping[str, bytes] | None = None
        self._ip = ""
        self._token = ""
        self._segment: Mapping[str, bool] | None = None
        self._rudder: Mapping[str, bool] | None = None

    def read(self) -> DecodedContext:
        """Answer the decoded context."""
        _, members, _ = parse_strict(self._text)
        # The event around it is the first level.
        if is_deeper(members, MAX_DEPTH - 1):
            raise too_deep()
        for key, value in members.items():
            if value is not None:
                self._member(key, value)
        context = self._context
        context.extra_json = join_members(self._left.items())
        preferences = join_preferences(self._segment, self._rudder)
        if not (context.ByteSize() or self._ip or self._token or self._warnings) and preferences is None:
            return EMPTY_CONTEXT
        return DecodedContext(
            serialized=context.SerializeToString(),
            user_agent=context.user_agent[:MAX_USER_AGENT_CHARS],
            ip=self._ip,
            page_url=context.page.url[:MAX_URL_CHARS],
            page_referrer=context.page.referrer[:MAX_URL_CHARS],
            locale=context.locale[:MAX_LOCALE_CHARS],
            category_preferences=preferences,
            traits_json=context.traits_json,
            identity_token=self._token,
            warnings=tuple(self._warnings),
        )

    def _member(self, key: str, value: Any) -> None:
        if (fields := _MESSAGES.get(key)) is not None:
            self._message(key, value, fields)
        elif (field := _FIELDS.get(key)) is not None:
            if field.accepts(value):
                setattr(self._context, field.name, value)
            else:
                self._leave(key, WARNING_CONTEXT_TYPE)
        elif (special := _SPECIAL.get(key)) is not None:
            special(self, key, value)
        else:
            self._leave(key)

    def _message(self, key: str, value: Any, fields: dict[str, _Field]) -> None:
        if type(value) is not dict:
            self._leave(key, WARNING_CONTEXT_TYPE)
            return
        left = []
        message: Message = getattr(self._context, key)
        for name, part in value.items():
            field = fields.get(name)
            if field is None:
                left.append(name)
            elif part is not None:
                if field.accepts(part):
                    setattr(message, field.name, part)
                else:
                    left.append(name)
                    self._warnings[WARNING_CONTEXT_TYPE] = None
        if left:
            self._leave_parts(key, left)

    def _traits(self, key: str, value: Any) -> None:
        if type(value) is dict:
            self._context.traits_json = self._raw(key).decode()
        else:
            self._leave(key, WARNING_CONTEXT_TYPE)

    def _address(self, _: str, value: Any) -> None:
        # Never to the extra keys: an address must not be published, whatever it looks like.
        if type(value) is str and len(value) <= _MOST_IP_CHARS:
            self._ip = value
        else:
            self._warnings[WARNING_CONTEXT_TYPE] = None

    def _identity_token(self, _: str, value: Any) -> None:
        if type(value) is str and len(value) <= _MOST_TOKEN_CHARS:
            self._token = value
        else:
            self._warnings[WARNING_IDENTITY_TOKEN_INVALID] = None

    def _consent(self, key: str, value: Any) -> None:
        if type(value) is dict:
            self._segment = segment_preferences(value)
            self._leave_consent(key, value, self._segment, ("categoryPreferences",))
        else:
            self._segment = MALFORMED_PREFERENCES
            self._leave(key, WARNING_CONTEXT_TYPE)

    def _consent_management(self, key: str, value: Any) -> None:
        if type(value) is dict:
            self._rudder = rudder_preferences(value)
            self._leave_consent(key, value, self._rudder, ("allowedConsentIds", "deniedConsentIds"))
        else:
            self._rudder = MALFORMED_PREFERENCES
            self._leave(key, WARNING_CONTEXT_TYPE)

    def _leave_consent(
        self, key: str, value: dict[str, Any], preferences: Mapping[str, bool] | None, read: tuple[str, ...]
    ) -> None:
        if preferences is MALFORMED_PREFERENCES:
            self._leave(key, WARNING_CONTEXT_TYPE)
        elif left := [name for name in value if name not in read]:
            self._leave_parts(key, left)

    def _leave(self, key: str, warning: EventWarning.ValueType | None = None) -> None:
        """Keep a member as text; with a warning where a field of that name exists and the value does not fit it."""
        self._left[key] = self._raw(key).decode()
        if warning is not None:
            self._warnings[warning] = None

    def _leave_parts(self, key: str, names: list[str]) -> None:
        parts = MEMBERS.decode(self._raw(key))
        self._left[key] = join_members((name, bytes(parts[name]).decode()) for name in names)

    def _raw(self, key: str) -> bytes:
        if self._members is None:
            self._members = MEMBERS.decode(self._text)
        return bytes(self._members[key])


_SPECIAL: Final = {
    "consent": _Reader._consent,  # noqa: SLF001 - the table of this module's own class
    "consentManagement": _Reader._consent_management,  # noqa: SLF001
    "identityToken": _Reader._identity_token,  # noqa: SLF001
    "ip": _Reader._address,  # noqa: SLF001
    "traits": _Reader._traits,  # noqa: SLF001
}
