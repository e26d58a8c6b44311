"""Records as people and tools read them, the filters of `clew tail`, and what strangers may have written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from clew.event.v1.failed_event_pb2 import FailedEvent, FailureReason
from clew.identity.v1.identifier_pb2 import Assurance
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from clew.options.v1.privacy_pb2 import Purpose
from cli.records import EVENTS_TOPIC, FAILED_TOPIC, PROFILES_TOPIC, Decoded, _decode, as_json, line, printable
from cli.tail import TailFilter
from mesh.bus.framing import frame_prefix

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Message:
    """A message as the consumer hands it over."""

    def __init__(self, topic: str, value: bytes | None, key: bytes | None = b"p-1", headers: Any = None) -> None:
        self._topic, self._value, self._key, self._headers = topic, value, key, headers

    def topic(self) -> str:
        """Its topic."""
        return self._topic

    def partition(self) -> int:
        """Its partition."""
        return 3

    def offset(self) -> int:
        """Its offset."""
        return 7

    def key(self) -> bytes | None:
        """Its key."""
        return self._key

    def value(self) -> bytes | None:
        """Its value."""
        return self._value

    def headers(self) -> Any:
        """Its headers."""
        return self._headers


def event(**fields: Any) -> EnrichedEvent:
    """One enriched event."""
    values: dict[str, Any] = {
        "type": EventType.EVENT_TYPE_TRACK,
        "message_id": "m-1",
        "source": "web",
        "event": "Order Completed",
        "user_id": "u1",
        "anonymous_id": "a1",
        "profile_id": "p-1",
        "assurance": Assurance.ASSURANCE_ASSERTED,
    }
    made = EnrichedEvent(**(values | fields))
    made.consent.granted_purposes.extend([Purpose.PURPOSE_ESSENTIAL, Purpose.PURPOSE_ANALYTICS])
    return made


def record(message: EnrichedEvent | FailedEvent | ProfileChanged) -> Decoded:
    """A decoded record."""
    topic = {EnrichedEvent: EVENTS_TOPIC, FailedEvent: FAILED_TOPIC, ProfileChanged: PROFILES_TOPIC}[type(message)]
    framed = frame_prefix(1) + message.SerializeToString()
    decoded = _decode(Message(topic, framed, headers=[("traceparent", TRACEPARENT.encode()), ("empty", None)]))
    assert decoded is not None
    return decoded


MERGED = ProfileChanged(workspace="shop", profile_id="p-1", merged_profile_ids=["p-2", "p-3"], epoch=2)
FAILED = FailedEvent(message_id="m-9", source="web", reason=FailureReason.FAILURE_REASON_TOO_DEEP, detail="nested")


def test_a_line_says_who_did_what_and_what_is_allowed() -> None:
    """All that one looks for when something is wrong, on one line."""
    assert line(record(event())).split() == [
        "track",
        *("Order", "Completed"),
        *("profile=p-1", "user=u1", "anon=a1", "(asserted)"),
        "allowed=essential,analytics",
    ]
    assert line(record(MERGED)).split() == ["merged", "epoch", "2", "profile=p-1", "from=p-2,p-3"]
    assert line(record(FAILED)).split() == ["failed", "too_deep", "source=web", "message=m-9", "nested"]


def test_json_has_the_place_the_headers_and_the_contracts_names() -> None:
    """One object a line; the trace is that of its header."""
    decoded = record(event())
    shown = json.loads(as_json(decoded))
    assert (shown["topic"], shown["partition"], shown["offset"], shown["key"]) == (EVENTS_TOPIC, 3, 7, "p-1")
    assert (shown["value"]["message_id"], shown["headers"]["empty"]) == ("m-1", "")
    assert decoded.trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\nfailed  forged", "\x9b31m", "\u202egnp.exe", "a\u2028b"])
def test_what_visitors_send_cannot_steer_a_terminal(text: str) -> None:
    """Escape sequences, new lines and reversed text are shown, not obeyed; JSON stays equal in value."""
    for shown in (line(record(event(event=text))), as_json(record(event(event=text)))):
        assert all(character.isprintable() for character in shown)
    assert json.loads(as_json(record(event(event=text))))["value"]["event"] == text


@given(st.text(st.characters(codec="utf-8")))
def test_a_record_is_always_one_line(text: str) -> None:
    """Whatever text a client found for its names."""
    decoded = record(event(event=text, user_id=text))
    assert len(line(decoded).splitlines()) == len(as_json(decoded).splitlines()) == 1
    assert json.loads(as_json(decoded))["value"].get("event", "") == text


def test_plain_text_of_any_language_is_left_alone() -> None:
    """Only what controls is replaced."""
    assert printable("Žluťoučký kůň 訂單 🛒") == "Žluťoučký kůň 訂單 🛒"


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\x01" * 10, frame_prefix(1) + b"\xff\xff"])
def test_what_somebody_else_wrote_is_passed_over_with_a_word(
    value: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tombstone, JSON, another framing: the viewer goes on."""
    assert _decode(Message(EVENTS_TOPIC, value, None)) is None
    assert "clew.events.v1[3] at 7 is no record of this topic" in capsys.readouterr().err


def test_a_value_of_a_newer_contract_is_shown_by_its_number() -> None:
    """An enum value that we do not know is no reason to stop."""
    newer = event(type=99)
    assert line(record(newer)).startswith("99 ")
    assert TailFilter(user="u1").accepts(record(newer))
    assert not TailFilter(type="track").accepts(record(newer))


@pytest.mark.parametrize(
    ("wanted", "shows_event", "shows_failed", "shows_merge"),
    [
        (TailFilter(), True, True, True),
        (TailFilter(type="track"), True, False, False),
        (TailFilter(type="page"), False, False, False),
        (TailFilter(user="u1"), True, False, False),
        (TailFilter(user="u2"), False, False, False),
        (TailFilter(anonymous="a1", user="u1"), True, False, False),
        (TailFilter(anonymous="a1", user="u2"), False, False, False),
        (TailFilter(profile="p-1"), True, False, True),
        (TailFilter(profile="p-3"), False, False, True),
        (TailFilter(profile="p-9"), False, False, False),
        (TailFilter(source="web"), True, True, False),
        (TailFilter(source="app"), False, False, False),
        (TailFilter(message_id="m-9"), False, True, False),
        (TailFilter(failed_only=True), False, True, False),
        (TailFilter(failed_only=True, source="app"), False, False, False),
    ],
)
def test_filters(wanted: TailFilter, shows_event: bool, shows_failed: bool, shows_merge: bool) -> None:
    """All that are given must fit; a failed event has no user, visitor or type to fit, a merge only profiles."""
    assert wanted.accepts(record(MERGED)) is shows_merge
    assert wanted.accepts(record(event())) is shows_event
    assert wanted.accepts(record(FAILED)) is shows_failed
