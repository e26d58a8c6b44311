"""What was changed about an event, told by paths."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clew.admin.v1.failed_event_service_pb2 import RedriveResult
from clew.event.v1.event_pb2 import Event
from gateway.redrive.changes import MAX_PATH_CHARS, MAX_PATHS, Changes, changes

NONE = Changes((), 0)
WHOLE = Changes(("",), 1)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


def text(value: Any) -> bytes:
    """JSON text."""
    return json.dumps(value).encode()


def at(value: Any, pointer: str) -> Any:
    """What a JSON Pointer leads to (RFC 6901), as text; None where nothing is."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            value = value[int(key)]
        elif key in value:
            value = value[key]
        else:
            return None
    return json.dumps(value, sort_keys=True)


@given(OBJECTS, OBJECTS)
def test_every_path_leads_to_a_difference(before: Any, after: Any) -> None:
    """And where nothing is named, nothing differs."""
    found = changes(text(before), text(after))
    assert all(at(before, path) != at(after, path) for path in found.paths)
    assert found.total or json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


@given(OBJECTS)
def test_the_same_in_another_writing_is_no_change(value: Any) -> None:
    """Blanks and the order of keys are no part of an event."""
    turned = dict(reversed(list(value.items())))
    assert changes(text(value), json.dumps(turned, indent=3).encode()) == NONE


def test_numbers_are_compared_as_they_stand() -> None:
    """No digit is lost, and true is not 1."""
    assert changes(b'{"n":9007199254740993}', b'{"n":9007199254740992}').paths == ("/n",)
    assert changes(b'{"n":1}', b'{"n":true}').paths == ("/n",)
    assert changes(b'{"n":NaN}', b'{"n":"NaN"}').paths == ("/n",)


def test_what_cannot_be_read_was_changed_as_a_whole() -> None:
    """Broken text, a key that stands twice, and depths that a parser gives up on."""
    for before in (b'{"a":', b"\xff", b'{"a":1,"a":2}', b'{"a":' * 100_000):
        assert changes(before, b'{"a":2}') == WHOLE
    assert changes(b'{"a":1}', Event(event="a")).paths == ("/a", "/event")


def test_messages_are_compared_as_json() -> None:
    """By the contract's JSON names."""
    assert changes(Event(event="a", user_id="u"), Event(event="a", user_id="v")).paths == ("/userId",)


def test_there_is_a_bound_on_what_is_told() -> None:
    """Fifty paths of two hundred characters, and how many they are."""
    many = {f"{number:03}" + "x" * 500: number for number in range(200)}
    found = changes(b"{}", text(many))
    assert (len(found.paths), found.total) == (MAX_PATHS, 200)
    assert {len(path) for path in found.paths} == {MAX_PATH_CHARS}


def test_a_message_holds_every_path() -> None:
    """Half of a surrogate pair in a key is why some events failed: it is spelled out, or nobody could mend them."""
    found = changes(b'{"\\ud800":1,"a":{"x\\udfff":2}}', b'{"a":{}}')
    assert found == Changes((r"/a/x\udfff", r"/\ud800"), 2)
    assert list(RedriveResult(changed_paths=found.paths).changed_paths) == list(found.paths)
