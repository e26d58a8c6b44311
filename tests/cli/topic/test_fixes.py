"""Mending events: only what is named changes, byte for byte."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.topic.fixes import CannotFix, Setting, command, editor, parse_path, parse_set, setting
from cli.topic.selection import BadSelection

EVENT = b'{"type":"track","n":1.50,"big":9007199254740993,"properties":{"total":1e2,"list":[1,2,3]}}'
NAMES = st.text(alphabet="ab./~\u00e9", min_size=1, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)


def fixed(text: bytes, *sets: str) -> bytes:
    """The text after settings."""
    return setting([parse_set(one) for one in sets])(text)


def unset(text: bytes, path: str) -> bytes:
    """The text without a field."""
    return setting([Setting(parse_path("--unset", path), None)])(text)


def pointer(path: list[str]) -> str:
    """As a JSON Pointer."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


@given(st.dictionaries(NAMES, JSON, max_size=3), st.lists(NAMES, min_size=1, max_size=3), JSON)
def test_a_field_that_is_set_stands_there(event: Any, path: list[str], value: Any) -> None:
    """Objects on the way are made; everything else is as it was; setting it again changes nothing."""
    expected = json.loads(json.dumps(event))
    inner = expected
    for step in path[:-1]:
        inner = inner.setdefault(step, {}) if isinstance(inner, dict) else None
    text = json.dumps(event).encode()
    assignment = f"{pointer(path)}={json.dumps(value)}"
    if not isinstance(inner, dict):
        with pytest.raises(CannotFix):
            fixed(text, assignment)
        return
    inner[path[-1]] = value
    once = fixed(text, assignment)
    assert json.loads(once) == expected
    assert fixed(once, assignment) == once


@given(st.dictionaries(NAMES, JSON, max_size=4), NAMES)
def test_a_field_that_is_removed_is_gone(event: Any, name: str) -> None:
    """And one that was not there is no fault."""
    text = json.dumps(event).encode()
    event.pop(name, None)
    assert json.loads(unset(text, pointer([name]))) == event


def test_what_is_not_named_stays_as_it_came() -> None:
    """Digits, their spelling, and the order of keys."""
    assert fixed(EVENT, 'userId="u"') == EVENT[:-1] + b',"userId":"u"}'
    assert fixed(EVENT, "properties.total=3.10") == EVENT.replace(b"1e2", b"3.10")
    assert unset(EVENT, "absent") is EVENT
    assert unset(EVENT, "properties.absent.deeper") == EVENT


def test_items_of_lists_are_named_by_number() -> None:
    """From 0; a list does not grow."""
    assert fixed(EVENT, "properties.list.1=true") == EVENT.replace(b"[1,2,3]", b"[1,true,3]")
    assert unset(EVENT, "/properties/list/0") == EVENT.replace(b"[1,2,3]", b"[2,3]")
    for path in ("properties.list.3=1", "properties.list.x=1"):
        with pytest.raises(CannotFix, match="a list of 3"):
            fixed(EVENT, path)


def test_paths_have_two_forms() -> None:
    """Dots, where a dot in a name has a backslash before it, and JSON Pointers."""
    assert parse_path("--set", r"a.b\.c.d") == ("a", "b.c", "d")
    assert parse_path("--set", "/a/b.c/~1~0") == ("a", "b.c", "/~")
    for text in ("", ".", "a..b", "a."):
        with pytest.raises(BadSelection, match="no path"):
            parse_path("--set", text)


def test_a_value_must_be_json() -> None:
    """The message says how the text would be written, so that no number becomes a text by accident."""
    with pytest.raises(BadSelection, match="""write userId='"u-1"'"""):
        parse_set("userId=u-1")
    assert parse_set('a="b=1"') == Setting(("a",), b'"b=1"')


def test_what_strict_json_does_not_know_is_mended_all_the_same() -> None:
    """NaN and half a surrogate pair are what events fail with."""
    assert json.loads(fixed(rb'{"event":"\ud800","a":{"b":1}}', 'event="X"', "a.c=2")) == {
        "event": "X",
        "a": {"b": 1, "c": 2},
    }
    assert b"NaN" in fixed(b'{"price":NaN}', 'userId="u"')
    assert json.loads(unset(b'{"price":NaN,"a":1}', "price")) == {"a": 1}


@pytest.mark.parametrize("text", [b"", b"42", b'"text"', b'{"a":', b'{"a":"\xff"}', b"{" * 100_000])
def test_what_nobody_can_read_is_said(text: bytes) -> None:
    """With what else to try."""
    with pytest.raises(CannotFix, match="--edit or --fix"):
        fixed(text, "a.b=1")


def test_a_command_gets_the_event_and_prints_it(tmp_path: Path) -> None:
    """Its input is the text as it came; what it prints is sent."""
    script = tmp_path / "fix.py"
    script.write_text("import sys; sys.stdout.write(sys.stdin.read().replace('track', 'page'))")
    assert command(f"{sys.executable} {script}")(EVENT) == EVENT.replace(b"track", b"page")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("false", "ended with 1"),
        ("sh -c 'echo no such field >&2; exit 3'", "ended with 3: no such field"),
        ("true", "printed no event"),
        ("/no/such/command", "cannot be run"),
    ],
)
def test_a_command_that_fails_mends_nothing(line: str, said: str) -> None:
    """And says why."""
    with pytest.raises(CannotFix, match=said):
        command(line)(EVENT)


def test_an_editor_sees_a_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its owner only, gone afterwards; what is left as it is stays byte for byte."""
    seen = tmp_path / "seen"
    script = tmp_path / "edit.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1]); text = file.read_text()\n"
        f"pathlib.Path({str(seen)!r}).write_text(f'{{file}}\\n{{os.stat(file).st_mode}}\\n{{text}}')\n"
        "file.write_text(text.replace(os.environ.get('OLD', ''), os.environ.get('NEW', '')))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    assert editor()(EVENT) == EVENT
    monkeypatch.setenv("OLD", "track")
    monkeypatch.setenv("NEW", "page")
    edited = editor()(EVENT)
    assert json.loads(edited) == {**json.loads(EVENT), "type": "page"}
    assert b"1.50" in edited
    path, mode, *lines = seen.read_text().splitlines()
    assert not Path(path).exists()
    assert stat.S_IMODE(int(mode)) & 0o077 == 0
    assert len(lines) > 3


def test_an_editor_that_fails_mends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that is not there."""
    monkeypatch.delenv("VISUAL", raising=False)
    for name, said in (("false", "nothing was changed"), ("/no/such/editor", "set EDITOR")):
        monkeypatch.setenv("EDITOR", name)
        with pytest.raises(CannotFix, match=said):
            editor()(EVENT)
