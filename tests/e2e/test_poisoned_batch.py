"""One batch of a hundred, a good part of it poison: each event gets what it deserves, and no request fails for it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from clew.event.v1.event_pb2 import WARNING_NON_FINITE_NUMBER
from clew.event.v1.failed_event_pb2 import FailureReason
from mesh.ids import new_id
from tests.support.edge import Answer
from tests.support.mesh import RunningMesh

_SIZE = 100


def _event(message_id: str, **members: Any) -> bytes:
    value = {"type": "track", "event": "Bought", "anonymousId": "poisoned", "messageId": message_id, **members}
    return json.dumps(value).encode()


def _nested(depth: int) -> Any:
    return {"deeper": _nested(depth - 1)} if depth > 1 else {}


def _in_properties(message_id: str, text: bytes) -> bytes:
    return _event(message_id, properties="<here>").replace(b'"<here>"', text)


# What poisons an event: its text for a message id, and the reason that must come back.
_POISON: dict[str, tuple[Callable[[str], bytes], str]] = {
    "no-id": (lambda name: _event(name, anonymousId=None), "missing_identifier"),
    "40-kb": (lambda name: _event(name, properties={"blob": "x" * 40_000}), "event_too_large"),
    "lone-surrogate": (lambda name: _in_properties(name, rb'{"name":"\ud800"}'), "invalid_unicode"),
    "not-utf-8": (lambda name: _in_properties(name, b'{"name":"\xff\xfe"}'), "invalid_unicode"),
    "unknown-type": (lambda name: _event(name, type="shrug"), "unknown_type"),
    "no-type": (lambda name: _event(name, type=None), "unknown_type"),
    "depth-60": (lambda name: _event(name, properties=_nested(60)), "too_deep"),
    "duplicate-key": (lambda name: _in_properties(name, b'{"price":1,"price":2}'), "duplicate_key"),
    "properties-are-text": (lambda name: _event(name, properties="cheap"), "invalid_field"),
    "alias-without-previous": (lambda name: _event(name, type="alias", userId="u"), "missing_field"),
}
_NO_OBJECTS = {
    "number": (b"42", "malformed_json"),
    "null": (b"null", "malformed_json"),
    "list": (b"[]", "malformed_json"),
}


@dataclass(frozen=True)
class Sent:
    """The batch that was sent, its raw events by name, and the answer."""

    answer: Answer
    good: list[str]
    not_a_number: str
    twice: str
    bad: dict[str, tuple[bytes, str]]
    texts: list[bytes]


@pytest.fixture(scope="module")
def sent(mesh: RunningMesh) -> Sent:
    """The batch: poison in between good events, one good event's id once more, and a NaN."""
    run = new_id()
    bad = {f"{name}-{run}": (make(f"{name}-{run}"), reason) for name, (make, reason) in _POISON.items()}
    not_a_number, twice = f"nan-{run}", f"twice-{run}"
    middle = [text for text, _ in (*bad.values(), *_NO_OBJECTS.values())]
    middle += [_in_properties(not_a_number, b'{"price":NaN,"low":-Infinity,"sku":"s-1"}')]
    middle += [_event(twice), _event(twice, event="Bought again")]
    good = [f"good-{number}-{run}" for number in range(_SIZE - len(middle))]
    texts = [_event(name) for name in good]
    for position, text in enumerate(middle):
        texts.insert(position * 4 + 1, text)
    assert len(texts) == _SIZE
    answer = mesh.edge.post_raw(b'{"batch":[' + b",".join(texts) + b"]}")
    return Sent(answer, good, not_a_number, twice, bad, texts)


def test_a_poisoned_batch_is_answered_with_200_and_a_verdict_for_each(sent: Sent) -> None:
    """The answer is 200, whose verdicts stand in the order of the events and add up."""
    assert sent.answer.status == 200, sent.answer.body
    answer = sent.answer.json
    assert [len(answer["events"]), answer["success"]] == [_SIZE, True]
    rejected = len(sent.bad) + len(_NO_OBJECTS)
    counts = {name: answer[name] for name in ("accepted", "duplicate", "rejected", "filtered")}
    assert counts == {"accepted": len(sent.good) + 2, "duplicate": 1, "rejected": rejected, "filtered": 0}
    for text, event in zip(sent.texts, answer["events"], strict=True):
        assert event["messageId"].encode() in text


def test_each_bad_event_is_told_its_reason(sent: Sent) -> None:
    """The verdict of a bad event names the reason and says in words what is wrong."""
    verdicts = {event["messageId"]: event for event in sent.answer.json["events"] if event["verdict"] == "rejected"}
    for name, (_, reason) in sent.bad.items():
        assert verdicts[name]["reason"] == reason, verdicts[name]
        assert verdicts[name]["detail"]


def test_good_events_are_on_the_topic_once(mesh: RunningMesh, sent: Sent) -> None:
    """What stood beside the poison is on the events topic, each once, and none of the poison is."""
    found = mesh.events.wait([*sent.good, sent.not_a_number, sent.twice], quiet=0.5)
    assert all(len(records) == 1 for records in found.values())
    assert not sent.bad.keys() & {record.message.message_id for record in mesh.events.records}
    assert found[sent.twice][0].message.event == "Bought"


def test_each_bad_event_is_on_the_failed_topic(mesh: RunningMesh, sent: Sent) -> None:
    """A refused event is kept as it came, under its source, with its typed reason, its place and its size."""
    found = mesh.failed.wait(sent.bad, quiet=0.5)
    for name, (text, reason) in sent.bad.items():
        (record,) = found[name]
        message = record.message
        assert FailureReason.Name(message.reason) == f"FAILURE_REASON_{reason.upper()}"
        assert message.payload == text
        assert (message.payload_size_bytes, message.index) == (len(text), sent.texts.index(text))
        assert (record.key, message.source, message.workspace) == ("default", "default", "main")
        assert message.detail
        assert record.headers["clew-schema"] == "clew.event.v1.FailedEvent;1.1.0"
        assert record.headers["traceparent"]


def test_what_is_no_object_is_kept_too(mesh: RunningMesh, sent: Sent) -> None:
    """An element that is no event at all is on the failed topic, found by its place in the batch."""
    places = {sent.texts.index(text): text for text, _ in _NO_OBJECTS.values()}
    trace_id = mesh.failed.one(next(iter(sent.bad))).headers["traceparent"].split("-")[1]
    same_request = {
        record.message.index: record.message
        for record in mesh.failed.now()
        if record.headers["traceparent"].split("-")[1] == trace_id
    }
    for place, text in places.items():
        assert same_request[place].payload == text
        assert same_request[place].reason == FailureReason.FAILURE_REASON_MALFORMED_JSON


def test_a_duplicate_id_is_a_duplicate_and_kept(mesh: RunningMesh, sent: Sent) -> None:
    """The second event with an id counts as duplicate; its text is on the failed topic under that reason."""
    verdicts = [event["verdict"] for event in sent.answer.json["events"] if event["messageId"] == sent.twice]
    assert verdicts == ["accepted", "duplicate"]
    message = mesh.failed.one(sent.twice).message
    assert message.reason == FailureReason.FAILURE_REASON_DUPLICATE_MESSAGE_ID
    assert b"Bought again" in message.payload


def test_a_number_that_is_none_becomes_null(mesh: RunningMesh, sent: Sent) -> None:
    """NaN and infinities, which the Python libraries write, cost nobody the event: they are null, with a warning."""
    message = mesh.events.one(sent.not_a_number).message
    assert json.loads(message.properties_json) == {"price": None, "low": None, "sku": "s-1"}
    assert list(message.warnings) == [WARNING_NON_FINITE_NUMBER]


@pytest.mark.parametrize("name", _POISON)
def test_poison_alone_is_no_failed_request_either(mesh: RunningMesh, name: str) -> None:
    """A batch without one good event is answered with 200 as well: on anything else libraries drop or repeat it."""
    make, reason = _POISON[name]
    answer = mesh.edge.post_raw(b'{"batch":[' + make(f"alone-{name}-{new_id()}") + b"]}")
    assert answer.status == 200, answer.body
    assert [(event["verdict"], event["reason"]) for event in answer.json["events"]] == [("rejected", reason)]
