"""Mending a failed event: fields set and removed, a command that rewrites it, or an editor.

What is not touched stays byte for byte: a text is taken apart along the path only, so that no digit is lost.
"""

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

from cli.topic.selection import BadSelection

_COMMAND_SECONDS: Final = 30
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_ITEMS: Final = msgspec.json.Decoder(list[Raw])
_ENCODER: Final = msgspec.json.Encoder()
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

Steps: TypeAlias = tuple[str, ...]
Fix: TypeAlias = Callable[[bytes], bytes]
"""From the event's text to the mended one."""


class CannotFix(Exception):
    """Raised when an event cannot be mended this way; the message says why, and what else to try."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One field and its new text; None: it is removed."""

    path: Steps
    text: bytes | None


def parse_set(text: str) -> Setting:
    """`properties.total=12.5`: a path and JSON.

    Raises:
        BadSelection: It is none.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise BadSelection(
            "--set", f"{text!r} is no PATH=JSON; write it like userId='\"u-1\"' or properties.total=12.5"
        )
    try:
        json.loads(value)
        encoded = value.strip().encode()
    except (ValueError, RecursionError) as error:
        hint = f"for the text {value!r} write {path}={shlex.quote(json.dumps(value))}"
        raise BadSelection("--set", f"{value!r} is no JSON: {error}; {hint}") from error
    return Setting(parse_path("--set", path), encoded)


def parse_path(option: str, text: str) -> Steps:
    r"""`context.page.url`, with `\.` for a dot in a name, or a JSON Pointer, `/context/page/url` (RFC 6901).

    Raises:
        BadSelection: It is empty, or a step of it is.
    """
    if text.startswith("/"):
        steps = [step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/")]
    else:
        steps = [step.replace("\0", ".") for step in text.replace("\\.", "\0").split(".")]
        if not all(steps):
            raise BadSelection(option, f"{text!r} is no path; write it like properties.total, or /properties/total")
    return tuple(steps)


def setting(settings: Sequence[Setting]) -> Fix:
    """Set and remove fields, in order."""

    def fix(text: bytes) -> bytes:
        for one in settings:
            try:
                text = _put(text, one.path, one.text)
            except _Unreadable as error:
                text = _put_leniently(text, one, error)
        return text

    return fix


def command(line: str) -> Fix:
    """Run a command for each event: its text on standard input, the mended one from standard output.

    Raises:
        BadSelection: It cannot be split into words.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadSelection("--fix", f"{line!r} is no command: {error}") from error
    if not words:
        raise BadSelection("--fix", "names no command")

    def fix(text: bytes) -> bytes:
        try:
            done = subprocess.run(words, input=text, capture_output=True, check=False, timeout=_COMMAND_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotFix(f"the command {words[0]} cannot be run: {error}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise CannotFix(f"{words[0]} ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")
        if not done.stdout.strip():
            raise CannotFix(f"{words[0]} printed no event")
        return done.stdout.strip()

    return fix


def editor() -> Fix:
    """Open the event in $VISUAL or $EDITOR; the file is readable by its owner only, and removed afterwards."""

    def fix(text: bytes) -> bytes:
        words = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            pretty = msgspec.json.format(text, indent=2)
        except _UNREADABLE:
            pretty = text
        with tempfile.TemporaryDirectory(prefix="clew-") as directory:
            file = Path(directory) / "event.json"
            file.touch(mode=0o600)
            file.write_bytes(pretty)
            try:
                status = subprocess.run([*words, str(file)], check=False).returncode
            except OSError as error:
                raise CannotFix(f"the editor {words[0]} cannot be run: {error}; set EDITOR") from error
            if status:
                raise CannotFix(f"{words[0]} ended with {status}; nothing was changed")
            edited = file.read_bytes()
        return text if edited == pretty else edited.strip()

    return fix


class _Unreadable(CannotFix):
    """Raised for text that strict JSON does not know."""


def _put_leniently(text: bytes, one: Setting, problem: CannotFix) -> bytes:
    """The same for what only Python reads: NaN, halves of surrogate pairs. Numbers are written anew.

    Raises:
        CannotFix: Nobody can read it.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise problem from None
    inner = value
    for step in one.path[:-1]:
        if not isinstance(inner, dict):
            raise problem
        inner = inner.setdefault(step, {}) if one.text is not None else inner.get(step, {})
    if not isinstance(inner, dict):
        raise problem
    if one.text is None:
        inner.pop(one.path[-1], None)
    else:
        inner[one.path[-1]] = json.loads(one.text)
    return json.dumps(value).encode()


def _put(text: bytes, path: Steps, value: bytes | None) -> bytes:
    step, rest = path[0], path[1:]
    begins = text.lstrip()[:1]
    if begins == b"[":
        return _put_item(text, step, rest, value)
    if begins != b"{":
        raise CannotFix(f"there is no object that could have a field {step!r}; use --edit or --fix")
    try:
        members = _MEMBERS.decode(text)
    except _UNREADABLE as error:
        raise _Unreadable(f"it is no JSON ({error}); use --edit or --fix") from error
    if value is None and step not in members:
        return text
    if rest:
        members[step] = Raw(_put(bytes(members.get(step, Raw(b"{}"))), rest, value))
    elif value is None:
        del members[step]
    else:
        members[step] = Raw(value)
    return _ENCODER.encode(members)


def _put_item(text: bytes, step: str, rest: Steps, value: bytes | None) -> bytes:
    try:
        items = _ITEMS.decode(text)
    except _UNREADABLE as error:
        raise _Unreadable(f"it is no JSON ({error}); use --edit or --fix") from error
    if not (step.isascii() and step.isdecimal() and int(step) < len(items)):
        raise CannotFix(f"a list of {len(items)} has no item {step!r}; the first is 0")
    if rest:
        items[int(step)] = Raw(_put(bytes(items[int(step)]), rest, value))
    elif value is None:
        del items[int(step)]
    else:
        items[int(step)] = Raw(value)
    return _ENCODER.encode(items)
