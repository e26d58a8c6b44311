"""Typed events (`CollectorService`) come out as JSON ones do, under the same rules."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from clew.event.v1.context_pb2 import Context, Page
from clew.event.v1.event_pb2 import (
    EVENT_TYPE_ALIAS,
    EVENT_TYPE_IDENTIFY,
    EVENT_TYPE_TRACK,
    WARNING_INVALID_TIMESTAMP,
    WARNING_MESSAGE_ID_MINTED,
    WARNING_NON_FINITE_NUMBER,
    Event,
)
from clew.event.v1.failed_event_pb2 import (
    FAILURE_REASON_DUPLICATE_KEY,
    FAILURE_REASON_DUPLICATE_MESSAGE_ID,
    FAILURE_REASON_EVENT_TOO_LARGE,
    FAILURE_REASON_INVALID_FIELD,
    FAILURE_REASON_INVALID_UNICODE,
    FAILURE_REASON_MALFORMED_JSON,
    FAILURE_REASON_MISSING_FIELD,
    FAILURE_REASON_MISSING_IDENTIFIER,
    FAILURE_REASON_TOO_DEEP,
    FAILURE_REASON_UNKNOWN_TYPE,
)
from gateway.decode import decode_request, decode_typed
from gateway.decode.types import EMPTY_CONTEXT, MALFORMED_PREFERENCES, DecodedEvent

NOW = 1_795_446_670_000_000_000
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl"


def seen(**fields: object) -> Event:
    """Make a good track event with some fields of one's own."""
    return Event(**{"type": EVENT_TYPE_TRACK, "event": "Seen", "user_id": "u1", "message_id": "m-1", **fields})  # type: ignore[arg-type]


def accepted(event: Event) -> DecodedEvent:
    """Decode one event that is good."""
    (decoded,) = decode_typed([event], NOW).events
    return decoded


def test_a_typed_event_equals_its_json() -> None:
    """The same event through both doors gives the same decoded event."""
    typed = accepted(
        seen(
            properties_json='{"n": 9007199254740993}',
            context=Context(locale="en", page=Page(url="https://u.example/"), traits_json='{"a":1}'),
            original_time=Timestamp(seconds=NOW // 10**9 - 1),
            integrations_json='{"All":true}',
            extra_json='{"x":1}',
            category_preferences={"A": False},
            identity_token=TOKEN,
            ip="203.0.113.9",
        )
    )
    (from_json,) = decode_request(
        b'{"event":"Seen","userId":"u1","messageId":"m-1","properties":{"n": 9007199254740993},"x":1,'
        b'"integrations":{"All":true},"timestamp":"2026-11-23T15:11:09Z","context":{"locale":"en","page":{"url":"https://u.example/"},'
        b'"traits":{"a":1},"ip":"203.0.113.9","identityToken":"%s","consent":{"categoryPreferences":{"A":false}}}}'
        % TOKEN.encode(),
        EVENT_TYPE_TRACK,
        NOW,
    ).events
    for name in DecodedEvent.__struct_fields__:
        if name != "context":
            assert getattr(typed, name) == getattr(from_json, name), name
    for name in typed.context.__struct_fields__:
        assert getattr(typed.context, name) == getattr(from_json.context, name), name


def test_a_bare_event() -> None:
    """What a client leaves out is empty; the message id is minted, and traits of the context count for identify."""
    event = accepted(Event(type=EVENT_TYPE_IDENTIFY, anonymous_id="a1", context=Context(traits_json='{"a":1}')))
    assert event.warnings == [WARNING_MESSAGE_ID_MINTED]
    assert event.traits_json == '{"a":1}'
    assert accepted(seen()).context is EMPTY_CONTEXT


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event(user_id="u1"), FAILURE_REASON_UNKNOWN_TYPE),
        (seen(type=99), FAILURE_REASON_INVALID_FIELD),
        (seen(user_id=""), FAILURE_REASON_MISSING_IDENTIFIER),
        (seen(user_id=" "), FAILURE_REASON_MISSING_IDENTIFIER),
        (seen(user_id="u" * 257), FAILURE_REASON_INVALID_FIELD),
        (seen(user_id="u\0"), FAILURE_REASON_INVALID_FIELD),
        (seen(message_id="m" * 101), FAILURE_REASON_INVALID_FIELD),
        (seen(ip="1" * 46), FAILURE_REASON_INVALID_FIELD),
        (seen(event=""), FAILURE_REASON_MISSING_FIELD),
        (Event(type=EVENT_TYPE_ALIAS, user_id="u1"), FAILURE_REASON_MISSING_FIELD),
        (seen(properties_json="x" * 33_000), FAILURE_REASON_EVENT_TOO_LARGE),
        (seen(properties_json="{"), FAILURE_REASON_MALFORMED_JSON),
        (seen(properties_json="[]"), FAILURE_REASON_INVALID_FIELD),
        (seen(traits_json='{"a":1,"a":2}'), FAILURE_REASON_DUPLICATE_KEY),
        (seen(extra_json='{"a":"\\ud800"}'), FAILURE_REASON_INVALID_UNICODE),
        (seen(properties_json='{"a":' * 16 + "1" + "}" * 16), FAILURE_REASON_TOO_DEEP),
        (seen(context=Context(extra_json='{"a":' * 15 + "1" + "}" * 15)), FAILURE_REASON_TOO_DEEP),
        (seen(context=Context(traits_json="5")), FAILURE_REASON_INVALID_FIELD),
    ],
)
def test_a_bad_event_is_refused_alone(event: Event, reason: int) -> None:
    """Each event is checked by itself; the refused one is kept without its token and can still be parsed."""
    event.identity_token = TOKEN
    request = decode_typed([seen(message_id="a"), event, seen(message_id="b")], NOW)
    assert [good.index for good in request.events] == [0, 2]
    (rejected,) = request.rejected
    assert (rejected.index, rejected.reason, rejected.size) == (1, reason, event.ByteSize())
    kept = Event.FromString(rejected.payload)
    event.identity_token = ""
    assert kept == event


def test_depth_is_that_of_json() -> None:
    """Properties may have fifteen levels, members of the context fourteen, as in a body."""
    text = '{"a":' * 15 + "1" + "}" * 15
    assert accepted(seen(properties_json=text)).properties_json == text
    text = text[5:-1]
    assert Context.FromString(accepted(seen(context=Context(extra_json=text))).context.serialized).extra_json == text


def test_warnings() -> None:
    """NaN in JSON and a timestamp out of range are mended with a warning."""
    event = accepted(seen(properties_json='{"a":NaN}', original_time=Timestamp(seconds=10**12)))
    assert (event.properties_json, event.original_time_ns) == ('{"a":null}', None)
    assert set(event.warnings) == {WARNING_NON_FINITE_NUMBER, WARNING_INVALID_TIMESTAMP}


def test_a_category_name_that_is_too_long_fails_closed() -> None:
    """Consent that the consent service would refuse to read refuses everything."""
    event = accepted(seen(category_preferences={"A" * 257: True}))
    assert event.context.category_preferences is MALFORMED_PREFERENCES


def test_message_ids_are_unique_within_a_request() -> None:
    """The second event with a message id is refused."""
    request = decode_typed([seen(), seen()], NOW)
    assert [rejected.reason for rejected in request.rejected] == [FAILURE_REASON_DUPLICATE_MESSAGE_ID]
