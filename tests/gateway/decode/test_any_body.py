"""What holds for any body whatever."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clew.event.v1.context_pb2 import Context
from clew.event.v1.event_pb2 import EVENT_TYPE_TRACK
from gateway.decode import UnreadableBody, decode_request
from gateway.decode.types import MAX_EVENT_BYTES, DecodedRequest

NOW = 1_795_446_670_000_000_000
KEYS = st.sampled_from(
    [
        "type",
        "event",
        "userId",
        "anonymousId",
        "messageId",
        "properties",
        "traits",
        "context",
        "integrations",
        "timestamp",
        "sentAt",
        "groupId",
        "previousId",
        "name",
        "batch",
        "writeKey",
        "page",
        "url",
        "ip",
        "consent",
        "identityToken",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["track", "u1", "m-1"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=6),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "identify", "page"]), "event": st.just("Seen"), "userId": st.just("u1")},
    optional={"properties": OBJECTS, "traits": OBJECTS, "context": st.dictionaries(KEYS, VALUES), "x": VALUES},
)


def whole(request: DecodedRequest) -> None:
    """Check that each event has exactly one outcome, in order."""
    places = [event.index for event in request.events]
    refused = [rejected.index for rejected in request.rejected]
    assert places == sorted(places)
    assert refused == sorted(refused)
    assert sorted(places + refused) == list(range(request.count))
    for event in request.events:
        Context.FromString(event.context.serialized)
        for text in (event.properties_json, event.traits_json, event.integrations_json, event.extra_json):
            assert text == "" or isinstance(json.loads(text), dict)


@given(VALUES, st.sampled_from([None, EVENT_TYPE_TRACK]), st.booleans())
def test_any_json_is_decoded_or_unreadable(value: Any, route: Any, ascii_only: bool) -> None:
    """Any JSON value, NaN and lone surrogates included, gives outcomes or one typed refusal, never another error."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        whole(decode_request(body, route, NOW))
    except UnreadableBody:
        assert not (isinstance(value, dict) and isinstance(value.get("batch"), list) and set(value) == {"batch"})


@given(st.lists(VALUES | EVENTS, max_size=8), st.booleans())
def test_every_element_of_a_batch_has_an_outcome(elements: list[Any], bare: bool) -> None:
    """Accepted and refused together are as many as the elements."""
    request = decode_request(json.dumps(elements if bare else {"batch": elements}).encode(), None, NOW)
    whole(request)
    assert request.count == len(elements)


@given(
    st.binary(max_size=100),
    st.sampled_from([b"%s", b'{"batch":[%s]}', b'{"batch":[{%s},{"a":1}]}', b'{"type":"track",%s}']),
)
def test_any_bytes_are_decoded_or_unreadable(junk: bytes, frame: bytes) -> None:
    """Any bytes give outcomes or one typed refusal."""
    try:
        whole(decode_request(frame.replace(b"%s", junk), None, NOW))
    except UnreadableBody:
        return


@given(st.text(alphabet='{}[]",:\\ab1 \n', max_size=60))
def test_a_broken_neighbour_never_changes_a_good_event_before_it(junk: str) -> None:
    """The first event of a batch comes out the same whatever stands behind it, or the body is refused as a whole."""
    body = b'{"batch":[{"type":"track","event":"Seen","userId":"u1","messageId":"m-1"},%s]}' % junk.encode()
    try:
        request = decode_request(body, None, NOW)
    except UnreadableBody:
        return
    assert (request.events[0].index, request.events[0].message_id, request.events[0].user_id) == (0, "m-1", "u1")


@given(OBJECTS, st.integers(0, 3) | st.none())
def test_properties_and_traits_stay_byte_for_byte(value: dict[str, Any], indent: int | None) -> None:
    """Properties and traits come out as the very text that went in, spaces, escapes and digits included."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=True)
    plain = not any(word in text for word in ("NaN", "Infinity"))
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    body = b'{"type":"track","event":"Seen","userId":"u1","traits":%s,"properties": %s }' % (raw, raw)
    request = decode_request(body, None, NOW)
    if plain and request.events:
        assert request.events[0].properties_json == request.events[0].traits_json == text


@given(
    st.integers() | st.decimals(allow_nan=False, allow_infinity=False).map(str).map(lambda text: text.replace("E", "e"))
)
def test_numbers_keep_their_digits(number: object) -> None:
    """No number is rounded, 2**53 + 1 and hundreds of digits included."""
    body = b'{"event":"Seen","userId":"u1","properties":{"n":%s,"m":9007199254740993}}' % str(number).encode()
    (event,) = decode_request(body, EVENT_TYPE_TRACK, NOW).events
    assert event.properties_json == f'{{"n":{number},"m":9007199254740993}}'


@given(EVENTS)
def test_accepted_events_keep_all_that_was_sent(sent: dict[str, Any]) -> None:
    """An accepted event's unknown members are all in its extra members."""
    body = json.dumps(sent).encode()
    request = decode_request(body, None, NOW)
    if (
        len(body) <= MAX_EVENT_BYTES
        and request.events
        and "NaN" not in body.decode()
        and "Infinity" not in body.decode()
    ):
        extra = json.loads(request.events[0].extra_json or "{}")
        assert extra.get("x") == sent.get("x")
