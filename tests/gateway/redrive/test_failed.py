"""What lies on the failed topic: text, a message, or what a stranger wrote."""

import json

from hypothesis import given
from hypothesis import strategies as st

from clew.event.v1.event_pb2 import Event, EventType
from clew.event.v1.failed_event_pb2 import FailedEvent
from gateway.decode import decode_request
from gateway.decode.typed import decode_typed
from gateway.redrive.failed import failed_key, read_failed
from mesh.bus.framing import frame_prefix
from mesh.bus.tail import StoredRecord
from mesh.payload import message_in

EVENTS = st.builds(
    Event,
    message_id=st.text(max_size=20),
    type=st.sampled_from(EventType.values()),
    user_id=st.text(max_size=300),
    event=st.text(max_size=20),
    properties_json=st.sampled_from(["", "{}", "[", '{"a":1}']),
)


@given(EVENTS)
def test_a_message_is_known_as_one(event: Event) -> None:
    """Whatever `CollectEvents` has refused, and its payload as it was kept."""
    for refused in decode_typed((event,), 0).rejected:
        found = message_in(refused.payload, Event)
        assert found is None if not refused.payload else found == event


def test_a_length_that_looks_like_text_is_none() -> None:
    """A message id of 91 or 123 bytes begins a message like a list or an object; one that is JSON stays text."""
    for length in range(1, 200):
        event = Event(message_id="m" * length, type=EventType.EVENT_TYPE_TRACK)
        assert message_in(event.SerializeToString(), Event) == event
    for text in ("\n{" + '"a":"' + "x" * 116 + '"}', "\n[" + '"' + "x" * 88 + '"]'):
        assert Event.FromString(text.encode()).message_id
        assert message_in(text.encode(), Event) is None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_known_as_text(value: object) -> None:
    """Whatever the HTTP edge has refused, and its payload as it was kept."""
    for refused in decode_request(json.dumps([value], ensure_ascii=False).encode(), None, 0).rejected:
        assert message_in(refused.payload, Event) is None


def record(value: bytes) -> StoredRecord:
    """A record of the failed topic."""
    return StoredRecord("clew.events.failed.v1", 3, 17, value, [])


@given(st.binary(max_size=60))
def test_what_a_stranger_wrote_does_no_harm(value: bytes) -> None:
    """It is no failed event, or one that can be read."""
    assert read_failed(record(value)) is None or value[:1] == b"\0"


def test_the_key_tells_records_apart_that_share_a_place() -> None:
    """A topic that was made anew begins at offset 0 again; its events were received at another time."""
    one = FailedEvent(index=2)
    one.received_time.FromNanoseconds(5_000_000_001)
    read = read_failed(record(frame_prefix(1) + one.SerializeToString()))
    assert read is not None
    assert read.key == failed_key(3, 17, 5_000_000_001, 2)
    others = {failed_key(*place) for place in ((3, 17, 5_000_000_001, 2), (3, 17, 5, 2), (3, 17, 5_000_000_001, 0))}
    assert len(others) == 3
    assert read.message_id == f"redrive-{read.key.hex()}"
