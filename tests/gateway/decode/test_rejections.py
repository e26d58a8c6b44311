"""What is refused, event by event, and what is kept of it."""

import json
from typing import Any

import pytest

from clew.event.v1.event_pb2 import (
    EVENT_TYPE_TRACK,
    WARNING_MESSAGE_ID_MINTED,
    WARNING_NON_FINITE_NUMBER,
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
from gateway.decode import decode_request
from gateway.decode.types import DecodedEvent, DecodedRequest, RejectedEvent

RECEIVED_NS = 1_795_446_670_000_000_000
GOOD: dict[str, Any] = {"type": "track", "event": "Seen", "userId": "u1"}


def batch(*events: bytes | dict[str, Any]) -> DecodedRequest:
    """Decode a batch of events given as text or as objects."""
    texts = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return decode_request(b'{"batch":[' + b",".join(texts) + b"]}", None, RECEIVED_NS)


def accepted(event: bytes | dict[str, Any]) -> DecodedEvent:
    """Decode one event that is good."""
    (decoded,) = batch(event).events
    return decoded


def refused(event: bytes | dict[str, Any]) -> RejectedEvent:
    """Decode one event that is bad, between two good ones that must not suffer."""
    request = batch(GOOD, event, GOOD)
    assert [good.index for good in request.events] == [0, 2]
    (rejected,) = request.rejected
    assert rejected.index == 1
    return rejected


def nested(levels: int) -> bytes:
    """Make an event with a number of levels, itself included."""
    inner = levels - 2
    value = b'{"a":' * inner + b"1" + b"}" * inner
    return b'{"type":"track","event":"Seen","userId":"u1","properties":{"a":' + value + b"}}"


def test_poisoned_batch_of_100() -> None:
    """Ninety-one good events survive nine bad neighbours of every kind; each bad one has its own reason, in order."""
    poison = {
        10: b'{"type":"track","event":"Seen"}',
        20: json.dumps({**GOOD, "properties": {"a": "x" * 40_000}}).encode(),
        30: b'{"type":"track","event":"Seen","userId":"u1","properties":{"revenue":NaN}}',
        40: b'{"type":"track","event":"\\ud800","userId":"u1"}',
        50: b'{"type":"purchase","userId":"u1"}',
        60: b'{"type":"track","event":"Seen","userId":"u1","messageId":"m-1"}',
        70: nested(60),
        80: b'{"type":"track","event":"Seen","userId":"u1","userId":"u2"}',
        90: b'{"type":"track","event":"Se\xff","userId":"u1"}',
        95: b'{"type":"track","event":"Seen",,"userId":}',
    }
    events = [{**GOOD, "messageId": f"m-{index}"} for index in range(100)]
    request = batch(*(poison.get(index, event) for index, event in enumerate(events)))
    assert request.count == 100
    assert {rejected.index: rejected.reason for rejected in request.rejected} == {
        10: FAILURE_REASON_MISSING_IDENTIFIER,
        20: FAILURE_REASON_EVENT_TOO_LARGE,
        40: FAILURE_REASON_INVALID_UNICODE,
        50: FAILURE_REASON_UNKNOWN_TYPE,
        60: FAILURE_REASON_DUPLICATE_MESSAGE_ID,
        70: FAILURE_REASON_TOO_DEEP,
        80: FAILURE_REASON_DUPLICATE_KEY,
        90: FAILURE_REASON_INVALID_UNICODE,
        95: FAILURE_REASON_MALFORMED_JSON,
    }
    assert len(request.events) == 91
    (mended,) = [event for event in request.events if event.index == 30]
    assert mended.warnings == [WARNING_NON_FINITE_NUMBER, WARNING_MESSAGE_ID_MINTED]
    assert mended.properties_json == '{"revenue":null}'


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({**GOOD, "type": None}, FAILURE_REASON_UNKNOWN_TYPE),
        ({**GOOD, "type": ["track"]}, FAILURE_REASON_UNKNOWN_TYPE),
        ({**GOOD, "type": "Track"}, FAILURE_REASON_UNKNOWN_TYPE),
        ({**GOOD, "userId": None}, FAILURE_REASON_MISSING_IDENTIFIER),
        ({**GOOD, "userId": ""}, FAILURE_REASON_MISSING_IDENTIFIER),
        ({**GOOD, "userId": " \t"}, FAILURE_REASON_MISSING_IDENTIFIER),
        ({**GOOD, "userId": True}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "userId": {"id": "u1"}}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "userId": "u" * 257}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "userId": "u\0"}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "anonymousId": "a" * 257}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "messageId": "m" * 101}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "messageId": "m\0"}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "messageId": []}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "properties": "text"}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "properties": [1]}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "traits": 1}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "integrations": False}, FAILURE_REASON_INVALID_FIELD),
        ({**GOOD, "event": {}}, FAILURE_REASON_INVALID_FIELD),
        ({"type": "track", "userId": "u1"}, FAILURE_REASON_MISSING_FIELD),
        ({"type": "group", "userId": "u1"}, FAILURE_REASON_MISSING_FIELD),
        ({"type": "alias", "userId": "u1"}, FAILURE_REASON_MISSING_FIELD),
        ({"type": "alias", "anonymousId": "a1", "previousId": "p1"}, FAILURE_REASON_MISSING_FIELD),
        ({"type": "alias", "previousId": "p1"}, FAILURE_REASON_MISSING_IDENTIFIER),
        (b"null", FAILURE_REASON_MALFORMED_JSON),
        (b'"text"', FAILURE_REASON_MALFORMED_JSON),
        (b"[]", FAILURE_REASON_MALFORMED_JSON),
        (
            b'{"type":"track","event":"Seen","userId":"u1","properties":{"a":{"b":1,"\\u0062":2}}}',
            FAILURE_REASON_DUPLICATE_KEY,
        ),
        (
            b'{"type":"track","event":"Seen","userId":"u1","context":{"ip":"::1","ip":"::2"}}',
            FAILURE_REASON_DUPLICATE_KEY,
        ),
        (
            b'{"type":"track","event":"Seen","userId":"u1","properties":{"a":"\\udc00\\ud800"}}',
            FAILURE_REASON_INVALID_UNICODE,
        ),
        (
            b'{"type":"track","event":"Seen","userId":"u1","context":{"locale":"\xed\xa0\x80"}}',
            FAILURE_REASON_INVALID_UNICODE,
        ),
        (
            b'{"type":"track","event":"Seen","userId":"u1","properties":{"n":' + b"9" * 5_000 + b"}}",
            FAILURE_REASON_MALFORMED_JSON,
        ),
        (nested(17), FAILURE_REASON_TOO_DEEP),
        (nested(2_000), FAILURE_REASON_TOO_DEEP),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_event_is_refused_alone(event: bytes | dict[str, Any], reason: int) -> None:
    """Each fault has its typed reason, and a detail for people; the events around it are accepted."""
    rejected = refused(event)
    assert rejected.reason == reason
    assert rejected.detail


@pytest.mark.parametrize("field", ["properties", "traits", "context", "integrations", "unknown"])
def test_depth_counts_everywhere(field: str) -> None:
    """Sixteen levels are accepted wherever they stand, seventeen are not."""
    for levels, count in ((15, 1), (16, 0)):
        value = b'{"a":' * levels + b"1" + b"}" * levels
        text = b'{"type":"track","event":"Seen","userId":"u1","%s":%s}' % (field.encode(), value)
        assert len(batch(text).events) == count


def test_many_brackets_are_not_depth() -> None:
    """A long list of products is flat, however many brackets it has."""
    products = [{"sku": str(number), "tags": ["a"]} for number in range(100)]
    assert json.loads(accepted({**GOOD, "properties": {"products": products}}).properties_json) == {
        "products": products
    }


def test_limits_are_inclusive() -> None:
    """Exactly 32,768 bytes, 256 and 100 characters (not bytes) are accepted."""
    event = {**GOOD, "userId": "é" * 256, "messageId": "m" * 100}
    bare = json.dumps({**event, "properties": {"a": ""}}, ensure_ascii=False).encode()
    room = 32_768 - len(bare)
    exact = json.dumps({**event, "properties": {"a": "x" * room}}, ensure_ascii=False).encode()
    assert len(batch(exact).events) == 1
    assert refused(exact.replace(b"xx", b"xxx", 1)).reason == FAILURE_REASON_EVENT_TOO_LARGE


@pytest.mark.parametrize(
    ("sent", "text"),
    [("42", "42"), ("-7", "-7"), ("1e3", "1e3"), ("12345678901234567890.50", "12345678901234567890.50")],
)
def test_numbers_as_ids_become_text_as_written(sent: str, text: str) -> None:
    """A number where an id belongs is taken, digit by digit."""
    assert accepted(f'{{"type":"track","event":7,"userId":{sent}}}'.encode()).user_id == text


def test_missing_message_id_is_minted() -> None:
    """An event without a message id gets a UUIDv7 of its own, and a warning."""
    first, second = batch(GOOD, {**GOOD, "messageId": ""}).events
    assert first.message_id[14] == "7"
    assert first.message_id != second.message_id
    assert first.warnings == second.warnings == [WARNING_MESSAGE_ID_MINTED]


def test_a_refused_event_does_not_take_its_message_id_along() -> None:
    """A message id counts as seen only once an event with it was accepted; from then on, others are refused."""
    bad = {"type": "track", "messageId": "m-1", "userId": "u1"}
    good = {**GOOD, "messageId": "m-1"}
    request = batch(bad, good, good)
    assert [event.index for event in request.events] == [1]
    assert [rejected.reason for rejected in request.rejected] == [
        FAILURE_REASON_MISSING_FIELD,
        FAILURE_REASON_DUPLICATE_MESSAGE_ID,
    ]


def test_events_beyond_2500_are_refused_one_by_one() -> None:
    """A batch that is too long keeps its first 2,500 events."""
    request = batch(*[GOOD] * 2_503)
    assert (request.count, len(request.events)) == (2_503, 2_500)
    assert [rejected.index for rejected in request.rejected] == [2_500, 2_501, 2_502]
    assert {rejected.reason for rejected in request.rejected} == {FAILURE_REASON_INVALID_FIELD}


def test_the_rejection_has_message_id_size_and_payload() -> None:
    """The refused text is kept as it came, with its size, and its message id where it can be found."""
    text = b'{ "messageId" : "m-9", "type":"nope", "userId":"u1" }'
    rejected = refused(text)
    assert (rejected.message_id, rejected.payload, rejected.size) == ("m-9", text, len(text))


def test_a_large_payload_is_cut() -> None:
    """At most 512 KB of a refused event are kept; its size says how large it was."""
    text = json.dumps({**GOOD, "properties": {"a": "x" * 700_000}}).encode()
    rejected = refused(text)
    assert len(rejected.payload) == 524_288
    assert rejected.size == len(text)


def test_details_never_repeat_values() -> None:
    """The detail of a refusal names the field and leaves its value out."""
    for key in ("userId", "anonymousId", "messageId"):
        assert "secret" not in refused({**GOOD, key: "secret" * 60}).detail
    assert "secret" not in refused({**GOOD, "type": "secret"}).detail


def test_a_lone_event_with_a_fault_is_refused_with_200_in_mind() -> None:
    """A lone event that is readable and bad is one rejection; its write key is found all the same."""
    request = decode_request(b'{"event":"a","event":"b","userId":"u1","writeKey":"wk"}', EVENT_TYPE_TRACK, RECEIVED_NS)
    assert request.write_key == "wk"
    assert [rejected.reason for rejected in request.rejected] == [FAILURE_REASON_DUPLICATE_KEY]
