"""What was changed about an event: paths (JSON Pointers, RFC 6901) and never a value, for the audit."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import MessageToDict

from clew.event.v1.event_pb2 import Event

MAX_PATHS: Final = 50
MAX_PATH_CHARS: Final = 200
_WHOLE: Final = ""
_ABSENT: Final = object()
# Deeper changes are told by the path that holds them: the edge takes 16 levels.
_MAX_LEVELS: Final = 20


class Changes(NamedTuple):
    """The first paths that were changed, and how many were."""

    paths: tuple[str, ...]
    total: int


def changes(before: bytes | Event, after: bytes | Event) -> Changes:
    """The paths whose values differ; the empty path, which is the whole event, where what failed cannot be read."""
    if before == after:
        return Changes((), 0)
    old, new = _value(before), _value(after)
    if old is _ABSENT or new is _ABSENT:
        return Changes((_WHOLE,), 1)
    found = list(_differences(old, new, _WHOLE, 0))
    return Changes(tuple(map(_shown, found[:MAX_PATHS])), len(found))


def _shown(path: str) -> str:
    """A path that a message can hold: half of a surrogate pair, for which an event may have failed, is spelled out."""
    return path.encode("utf-8", "backslashreplace").decode()[:MAX_PATH_CHARS]


def _value(event: bytes | Event) -> object:
    if isinstance(event, Event):
        return MessageToDict(event)
    try:
        # Numbers stay text: 1.0 is not 1 here, and no digit is lost.
        return json.loads(
            event,
            parse_float=lambda text: ("number", text),
            parse_int=lambda text: ("number", text),
            parse_constant=lambda text: ("number", text),
            object_pairs_hook=_members,
        )
    except (ValueError, RecursionError):
        return _ABSENT


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands there twice")
    return members


def _differences(old: object, new: object, path: str, level: int) -> Iterator[str]:
    if level < _MAX_LEVELS and isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            step = key.replace("~", "~0").replace("/", "~1")
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{path}/{step}", level + 1)
    elif level < _MAX_LEVELS and isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _differences(was, now, f"{path}/{index}", level + 1)
    elif type(old) is not type(new) or old != new:
        yield path
