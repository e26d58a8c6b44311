"""A request on disk: everything that its release needs, and nothing that opens a door."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

from clew.event.v1.event_pb2 import EVENT_TYPE_TRACK, Event
from gateway.batch import Submission
from gateway.decode import decode_typed
from gateway.decode.types import EMPTY_CONTEXT
from gateway.spool.record import UNREADABLE, encode, keep, read_head, read_kept, release
from tests.gateway.scripted import RECEIVED_NS, SOURCE, submission

OLD = Path(__file__).with_name("record_v1.msgpack")
TRACE = SpanContext(2**120 + 7, 2**60 + 7, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.c2ln"
CONTEXT = {
    "userAgent": "Firefox",
    "page": {"url": "https://shop.example/?q=ä"},
    "consent": {"categoryPreferences": {"x": True}},
}


def everything() -> Submission:
    """A request with something of all that one can hold."""
    batch: list[Any] = [
        {"type": "track", "event": "A", "anonymousId": "a", "messageId": "m-1", "properties": {"n": 2**53 + 1}},
        {"type": "identify", "userId": "u", "messageId": "m-2", "context": {**CONTEXT, "identityToken": TOKEN}},
        {"type": "page", "anonymousId": "a", "context": CONTEXT, "timestamp": "2026-11-20T10:00:00Z"},
        {"type": "page", "anonymousId": "a", "context": CONTEXT, "timestamp": "when"},
        {"type": "shrug", "messageId": "m-3", "writeKey": "secret"},
        {"type": "alias", "userId": "u", "previousId": "p", "messageId": "m-1"},
    ]
    body = json.dumps({"batch": batch, "writeKey": "secret"}).encode()
    made = submission(body, proven=frozenset({1}), trace=TRACE)
    made.produced = True
    return made


def through(made: Submission, *, again: bool = False) -> Submission:
    """Written, and read back for release."""
    return release(read_kept(encode(keep(made, 7))), 5.0, again=again)


def facts(made: Submission) -> list[Any]:
    """All that the pipeline looks at."""
    contexts = [event.context for event in made.decoded.events]
    return [
        [repr(event) for event in made.decoded.events],
        [repr(event) for event in made.decoded.rejected],
        # Events in the same circumstances share one context, and so one question to consent.
        [contexts.index(context) for context in contexts],
        (made.source.workspace, made.source.name, made.source.purposes),
        (made.trace.trace_id, made.trace.span_id, made.trace.trace_flags),
        (made.received_ns, made.client_ip, made.size, made.proven, made.count),
    ]


def test_everything_comes_back() -> None:
    """Minted message ids, warnings, exact numbers, times, who was proven, refused events and the trace."""
    made = everything()
    events = made.decoded.events
    expected = facts(made)
    expected[0] = [line.replace(TOKEN, "") for line in expected[0]]
    assert len(events) == 4 and len(made.decoded.rejected) == 2  # noqa: PT018 - what the test is about to look at
    assert facts(through(made)) == expected


def test_no_credential_is_written() -> None:
    """Neither tokens nor write keys: what they proved is a list of indices."""
    written = encode(keep(everything(), 7))
    assert TOKEN.encode() not in written
    assert b"eyJ" not in written
    assert b"secret" not in written


def test_what_was_handed_to_kafka_is_told() -> None:
    """So that its own record on the topic is not taken for another copy."""
    made = everything()
    assert read_kept(encode(keep(made, 7))).produced
    assert through(made, again=True).again
    assert through(made).spooled


def test_the_request_in_the_pipeline_is_not_changed() -> None:
    """It may still be under way when it is written down."""
    made = everything()
    before = facts(made)
    keep(made, 7)
    assert facts(made) == before
    assert made.decoded.events[0].context is EMPTY_CONTEXT


def test_typed_events_are_kept_like_any_other() -> None:
    """They have no body that could be kept."""
    typed = Event(type=EVENT_TYPE_TRACK, event="A", anonymous_id="a", category_preferences={"x": False}, ip="192.0.2.1")
    made = submission(b"[]")
    made.decoded = decode_typed([typed, Event()], RECEIVED_NS)
    assert facts(through(made)) == facts(made)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_record(data: bytes) -> None:
    """They raise what the spool expects, and never anything else."""
    with pytest.raises(UNREADABLE):
        read_kept(data)


def test_a_record_of_the_first_version_can_be_read() -> None:
    """An update of clew must not lose what the version before has acknowledged: this file never changes."""
    kept = read_kept(OLD.read_bytes())
    head = read_head(OLD.read_bytes())
    assert (head.workspace, head.source, head.count, head.serial) == (SOURCE.workspace, SOURCE.name, 6, 7)
    released = release(kept, 5.0, again=False)
    assert [event.message_id for event in released.decoded.events][:2] == ["m-1", "m-2"]
    assert released.proven == {1}
