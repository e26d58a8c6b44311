"""One fault in one event of a batch: the event is refused, its neighbours are not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decode import UnreadableBody, decode_request
from gateway.decode.types import DecodedRequest

NOW = 1_795_446_670_000_000_000
BODIES = Path(__file__).parent / "bodies"
BATCHES = ["segment_python.json", "rudder_python.json", "segment_node.json", "rudder_node.json"]
STRUCTURE = b'"{}[],:\\'


def _event(number: int) -> bytes:
    event = {
        "type": "track",
        "event": "Seen it",
        "userId": f"u{number}",
        "messageId": f"m-{number}",
        "properties": {"a": [1, {"b": "x, {y}"}], "c": 'q"uote'},
        "context": {"ip": "192.0.2.1"},
    }
    return json.dumps(event).encode()


def _batch(middle: bytes) -> bytes:
    return b'{"batch":[%b,%b,%b],"sentAt":"2026-11-20T10:20:31.000Z"}' % (_event(0), middle, _event(2))


def _ids(request: DecodedRequest) -> set[str]:
    return {event.message_id for event in request.events}


@pytest.mark.parametrize("fault", [bytes([byte]) for byte in b"]}:,ax0 \n\x00\xff"] + [b""], ids=repr)
def test_a_fault_at_any_place_costs_no_neighbour(fault: bytes) -> None:
    """Any byte of an event replaced by this one, or this one put before it: the events around it are accepted."""
    good = _event(1)
    for place in range(1, len(good)):
        for after in (place, place + 1):
            request = decode_request(_batch(good[:place] + fault + good[after:]), None, NOW)
            assert {"m-0", "m-2"} <= _ids(request), good[:place]


def test_the_faults_that_still_cost_neighbours_are_few() -> None:
    """An opened bracket, string or escape too many can swallow what follows. Less than one in a hundred do.

    Each place of an event and each of these bytes, put in or put instead, and the event cut off there.
    """
    good, tries, lost = _event(1), 0, 0
    for place in range(len(good)):
        broken = [
            good[:place] + fault + good[after:] for fault in (b"[", b"{", b'"', b"\\") for after in (place, place + 1)
        ]
        for middle in (*broken, good[:place]):
            tries += 1
            try:
                lost += not {"m-0", "m-2"} <= _ids(decode_request(_batch(middle), None, NOW))
            except UnreadableBody:
                lost += 1
    assert tries > 1_000
    assert lost < tries / 100


@pytest.mark.parametrize(
    "middle", [b'{"a":1]}', b'{"a":1}]', b"]", b"]]]]", b'"],"', b'{"a":"],\\"sentAt\\":1}"}', b'{"a":1}],"b":{"c":1}']
)
def test_a_stray_bracket_does_not_end_the_batch(middle: bytes) -> None:
    """Only a bracket behind which the body can end closes the batch."""
    request = decode_request(_batch(middle), None, NOW)
    assert {"m-0", "m-2"} <= _ids(request)


@given(st.sampled_from(BATCHES), st.integers(0), st.integers(0), st.binary(min_size=1, max_size=4))
def test_a_damaged_sdk_body_keeps_the_others(name: str, which: int, where: int, junk: bytes) -> None:
    """Bytes that are no structure, written over those of one event as a real SDK sends it, cost that event at most."""
    body = (BODIES / name).read_bytes()
    whole = decode_request(body, None, NOW)
    texts = [text for text in (_text_of(event.message_id, body) for event in whole.events) if text]
    text = texts[which % len(texts)]
    begin = body.index(text)
    place = begin + where % len(text)
    clean = bytes(byte for byte in junk if byte not in STRUCTURE)
    if any(byte in STRUCTURE for byte in body[place : place + len(clean)]):
        return
    damaged = decode_request(body[:place] + clean + body[place + len(clean) :], None, NOW)
    assert damaged.count == whole.count
    assert len(_ids(whole) - _ids(damaged)) <= 1


def _text_of(message_id: str, body: bytes) -> bytes:
    """Some of an event's text: around its message id."""
    place = body.find(message_id.encode())
    return body[place - 10 : place + len(message_id)] if place > 0 else b""
