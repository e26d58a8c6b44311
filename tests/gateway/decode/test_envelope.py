"""The three shapes of a body, what the envelope says for its events, and bodies that no envelope can be read from."""

import json

import pytest

from clew.event.v1.context_pb2 import Context
from clew.event.v1.event_pb2 import (
    EVENT_TYPE_IDENTIFY,
    EVENT_TYPE_TRACK,
    WARNING_CONTEXT_TYPE,
    WARNING_INVALID_TIMESTAMP,
    EventType,
)
from clew.event.v1.failed_event_pb2 import FAILURE_REASON_MALFORMED_JSON, FAILURE_REASON_UNKNOWN_TYPE
from gateway.decode import UnreadableBody, decode_request
from gateway.decode.types import DecodedRequest

RECEIVED_NS = 1_795_446_670_000_000_000  # 2026-11-23T15:11:10Z
SEEN = b'{"type":"track","event":"Seen","userId":"u1","messageId":"m-%d"}'


def decode(body: bytes, route: EventType.ValueType | None = None) -> DecodedRequest:
    """Decode a body on a route; the batch route unless another is named."""
    return decode_request(body, route, RECEIVED_NS)


def ids(request: DecodedRequest) -> list[str]:
    """List the message ids of the accepted events."""
    return [event.message_id for event in request.events]


@pytest.mark.parametrize("route", [None, EVENT_TYPE_TRACK])
@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":[%s,%s],"writeKey":"wk"}',
        b'\xef\xbb\xbf{"writeKey":"wk","batch":[%s,%s]}',
        b' \r\n{\t"sentAt" : null, "batch" : [ %s , %s ] , "writeKey":"wk" } \n',
        b'{"x":{"batch":[1]},"y":"\\"batch\\":[","batch":[%s,%s],"writeKey":"wk"}',
    ],
)
def test_a_batch_is_a_batch_on_every_route(body: bytes, route: EventType.ValueType | None) -> None:
    """The bytes say that it is a batch, wherever it is sent and however it is spaced."""
    request = decode(body % (SEEN % 1, SEEN % 2), route)
    assert (ids(request), request.write_key, request.count) == (["m-1", "m-2"], "wk", 2)


def test_a_bare_array_is_a_batch() -> None:
    """An array of events needs no envelope."""
    assert ids(decode(b"[%s,%s]" % (SEEN % 1, SEEN % 2))) == ["m-1", "m-2"]
    assert ids(decode(b'[%s,{"a":NaN},%s]' % (SEEN % 1, SEEN % 2))) == ["m-1", "m-2"]


def test_an_empty_batch_is_readable() -> None:
    """A batch of nothing holds no events and is no fault."""
    assert decode(b'{"batch":[]}').count == decode(b"[]").count == 0


def test_the_route_overrides_the_type_of_a_lone_event() -> None:
    """What is sent to /v1/identify is an identify call, whatever it says itself."""
    for text in (b'{"userId":"u1"}', b'{"type":"track","userId":"u1"}', b'{"type":7,"userId":"u1"}'):
        (event,) = decode(text, EVENT_TYPE_IDENTIFY).events
        assert event.type == EVENT_TYPE_IDENTIFY


def test_the_events_of_a_batch_keep_their_types_on_a_route_of_one_call() -> None:
    """In a batch the route fills in only where an event names no type; a wrong one is still refused."""
    request = decode(
        b'{"batch":[{"userId":"u1"},{"type":"track","event":"Seen","userId":"u1"},{"type":"x","userId":"u1"}]}',
        EVENT_TYPE_IDENTIFY,
    )
    assert [event.type for event in request.events] == [EVENT_TYPE_IDENTIFY, EVENT_TYPE_TRACK]
    assert [rejected.reason for rejected in request.rejected] == [FAILURE_REASON_UNKNOWN_TYPE]


def test_the_envelope_speaks_for_its_events() -> None:
    """Time of sending, context and integrations hold for all events, and fill in where one has its own."""
    request = decode(
        b'{"batch":[%s,{"type":"track","event":"Seen","userId":"u1","sentAt":"2026-11-23T15:11:09Z",'
        b'"context":{"locale":"nl","page":{"url":"https://a.example/"}},"integrations":{"A":true}}],'
        b'"sentAt":"2026-11-23T15:11:08Z","context":{"locale":"en","timezone":"UTC"},"integrations":{"A":false,"B":false}}'
        % (SEEN % 1)
    )
    first, second = request.events
    assert (first.sent_time_ns, second.sent_time_ns) == (1_795_446_668_000_000_000, 1_795_446_669_000_000_000)
    assert (first.context.locale, second.context.locale) == ("en", "nl")
    assert Context.FromString(second.context.serialized).timezone == "UTC"
    assert second.context.page_url == "https://a.example/"
    assert json.loads(first.integrations_json) == {"A": False, "B": False}
    assert json.loads(second.integrations_json) == {"A": True, "B": False}


def test_an_unreadable_time_of_sending_warns_each_event_that_relies_on_it() -> None:
    """What the envelope says wrongly is absent, with a warning, where an event says nothing itself."""
    first, second = decode(
        b'{"batch":[%s,{"type":"track","event":"Seen","userId":"u1","messageId":"m-2","sentAt":"2026-11-23T15:11:09Z"}],'
        b'"sentAt":"yesterday"}' % (SEEN % 1)
    ).events
    assert (first.sent_time_ns, first.warnings) == (None, [WARNING_INVALID_TIMESTAMP])
    assert second.warnings == []


def test_a_context_that_is_no_object_is_kept_beside() -> None:
    """A context that is text is kept as an extra member, with a warning; an empty array counts as no context."""
    text, array = decode(
        b'{"batch":[{"type":"track","event":"Seen","userId":"u1","messageId":"a","context":"web"},'
        b'{"type":"track","event":"Seen","userId":"u1","messageId":"b","context":[],"properties":[]}]}'
    ).events
    assert (text.extra_json, text.warnings) == ('{"context":"web"}', [WARNING_CONTEXT_TYPE])
    assert (array.extra_json, array.warnings, array.properties_json) == ("", [], "")


def test_both_timestamps_are_kept() -> None:
    """`originalTimestamp` is when it happened; a `timestamp` beside it is kept as an extra member."""
    (event,) = decode(
        b'{"event":"Seen","userId":"u1","timestamp":"2026-11-23T15:11:09Z","originalTimestamp":"2026-11-23T15:11:08Z"}',
        EVENT_TYPE_TRACK,
    ).events
    assert event.original_time_ns == 1_795_446_668_000_000_000
    assert event.extra_json == '{"timestamp":"2026-11-23T15:11:09Z"}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"not json",
        b"{",
        b'{"batch":',
        b'{"batch":[',
        b'{"batch":[{"type":"track"',
        b'{"batch":[%s' % (SEEN % 1),
        b'{"batch":[%s]' % (SEEN % 1),
        b'{"batch":[]}}',
        b'{"batch":[]} []',
        b'{"batch":[],"sentAt":}',
        b'{"batch":[],"sentAt":"a","sentAt":"b"}',
        b'{"batch":[1],"batch":[2]}',
        b'{"batch":[],"writeKey":"\xff"}',
        b'{"batch":[],"writeKey":"\\ud800"}',
        b'{"batch":[{"a":NaN}],"writeKey":"a","writeKey":"b"}',
        b'{"batch":[],"a":"' + b"x" * 40_000 + b'"}',
        b'{"batch":{}}',
        b'{"batch":null}',
        b"{}",
        b'{"events":[]}',
        b'{"event":"Seen","userId":"u1"}',
        b"[1,2",
        b"[1] 2",
        b"1",
        b"null",
        b'"text"',
        b"\x1f\x8b\x08\x00",
        "{}".encode("utf-16"),
        b'{"batch":[' + b"0," * 30_000 + b"0]}",
        b'{"batch":[' + b"x," * 30_000 + b"0]}",
        b"[" * 300_000,
        b'{"batch":[' + b'{"a":' * 300_000,
    ],
    ids=lambda body: str(body[:40]),
)
def test_no_envelope_can_be_read(body: bytes) -> None:
    """Such a body is refused as a whole: nothing in it can be acknowledged honestly."""
    with pytest.raises(UnreadableBody) as caught:
        decode(body)
    assert caught.value.detail


@pytest.mark.parametrize(
    ("body", "at"),
    # Python 3.13 counts to the comma, those before it to what should have followed.
    [(b"nope", "0"), (b'{"type" "track"}', "8"), (b'{"type":"track",}', "1[56]"), (b'{"type":"tr', "8")],
)
def test_the_detail_says_at_which_byte(body: bytes, at: str) -> None:
    """An unreadable lone event says where its JSON breaks."""
    with pytest.raises(UnreadableBody, match=f"at byte {at}"):
        decode(body, EVENT_TYPE_TRACK)


@pytest.mark.parametrize(
    "broken",
    [
        b'{"type":"track",}',
        b'{"type":"track","event":tru}',
        b'{"type":"track" "event":"a"}',
        b"{'type':'track'}",
        b'{"type":"track","a":[1}',
        b'{"type":"track","a":{"b":1}',
        b'{"type":"track","a":[1,2}}',
        b'{"type":"track","a":1}}',
        b'{"type":"track","a":"unfinished}',
        b'{"type":"track","a":"x"y"}',
        b'{"type":"track","a":"new\nline"}',
        b'{"type":"track","a":"bad\\xescape"}',
        b'{"type":"track","a":1 /* no */}',
        b"nonsense",
        b"",
    ],
)
def test_a_broken_event_does_not_take_its_neighbours_along(broken: bytes) -> None:
    """An element that breaks the JSON of the whole body is refused alone; the next events are found again."""
    request = decode(
        b'{"batch":[%s,%s,\n %s],"sentAt":"2026-11-23T15:11:09Z","writeKey":"wk"}' % (SEEN % 1, broken, SEEN % 3)
    )
    assert ids(request) == ["m-1", "m-3"]
    assert [(rejected.index, rejected.reason) for rejected in request.rejected] == [(1, FAILURE_REASON_MALFORMED_JSON)]
    assert request.write_key == "wk"
    assert request.events[0].sent_time_ns == 1_795_446_669_000_000_000


def test_broken_text_full_of_quotes_costs_linear_time() -> None:
    """A megabyte of escaped quotes that open nothing is split in well under a second."""
    request = decode(b'{"batch":[{"a":"x"y' + b'\\"' * 500_000 + b"},%s]}" % (SEEN % 2))
    assert (ids(request), request.count) == (["m-2"], 2)


def test_what_stands_beside_a_batch_cannot_make_it_huge() -> None:
    """It is added to every event: a body of 200 KB must not become a batch of 80 MB on its way through the services."""
    context = json.dumps({"locale": "x" * 4_000}).encode()
    few, many = (b",".join(SEEN % number for number in range(count)) for count in (100, 2_500))
    assert len(decode(b'{"context":%s,"batch":[%s]}' % (context, few)).events) == 100
    with pytest.raises(UnreadableBody, match="too large for so many events"):
        decode(b'{"context":%s,"batch":[%s]}' % (context, many))
    large = json.dumps({"locale": "x" * 17_000}).encode()
    with pytest.raises(UnreadableBody, match="put it into the events"):
        decode(b'{"context":%s,"batch":[%s]}' % (large, SEEN % 1))
