"""JSON text, strictly read: what every reader would understand in the same way, or a reason why not.

The strict pass is jiter's (Rust): UTF-8, surrogates, duplicate keys and syntax in one go. Only what it refuses is
looked at again in Python, to say why, or to mend the one fault that common clients make (`NaN`).
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import jiter
import msgspec
from msgspec import Raw, Struct

from clew.event.v1.failed_event_pb2 import (
    FAILURE_REASON_DUPLICATE_KEY,
    FAILURE_REASON_INVALID_UNICODE,
    FAILURE_REASON_MALFORMED_JSON,
    FAILURE_REASON_TOO_DEEP,
)
from gateway.decode.errors import Rejection
from gateway.decode.types import MAX_DEPTH

MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
"""Splits an object's text into its members' texts. It checks neither Unicode nor duplicates: for checked text only."""


class Parts(Struct, gc=False):
    """The texts of the members that tell a batch from an event, and of those of an event that stay text; or empty."""

    type: Raw = Raw()
    batch: Raw = Raw()
    writeKey: Raw = Raw()  # noqa: N815 - the wire's name
    properties: Raw = Raw()
    traits: Raw = Raw()
    context: Raw = Raw()
    integrations: Raw = Raw()


PARTS: Final = msgspec.json.Decoder(Parts)
"""Splits as `MEMBERS` does and in half the time, as it passes over all others; the second of two of one name stays."""

_from_json = jiter.from_json
# Atomic, not possessive: see `split`.
_STRING: Final = rb'"(?>(?:[^"\\]+|\\.)*)"'
# Up to and including the next number that JSON does not have, strings skipped.
_NON_FINITE = re.compile(rb'((?>(?:[^"NI-]++|' + _STRING + rb"|-(?![NI]))*))-?(?:NaN|Infinity)", re.DOTALL)
# To the next bracket outside of strings. Matched end to end, and escapes outside of strings are taken in pairs: text
# full of quotes that open nothing still costs linear time.
_TO_BRACKET = re.compile(rb'(?>(?:[^"{}\[\]\\]++|' + _STRING + rb'|\\.?+|")*)([{}\[\]])', re.DOTALL)
_MOST_KEY_CHARS: Final = 64


class _DuplicateKeyError(Exception):
    """Carries the key that stands twice in one object."""


def parse_strict(text: bytes) -> tuple[bytes, Any, bool]:
    """Parse a JSON value; answer its text, the value, and whether numbers that JSON does not have became null in both.

    Raises:
        Rejection: INVALID_UNICODE, DUPLICATE_KEY, TOO_DEEP or MALFORMED_JSON.
    """
    try:
        return text, _from_json(text, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys"), False
    except ValueError:
        mended = _without_non_finite(text)
    try:
        return mended, _from_json(mended, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys"), True
    except ValueError:
        raise explain(text) from None


def explain(text: bytes) -> Rejection:
    """Say why a strict reader refuses a text. Costs several times a parse: for refused text only."""
    if depth_of(text) > MAX_DEPTH:
        return too_deep()
    try:
        json.loads(text.decode(), object_pairs_hook=_refuse_duplicates)
    except UnicodeDecodeError as error:
        return Rejection(FAILURE_REASON_INVALID_UNICODE, f"invalid UTF-8 at byte {error.start}")
    except _DuplicateKeyError as error:
        return Rejection(FAILURE_REASON_DUPLICATE_KEY, f"the key {error} stands twice in one object")
    except json.JSONDecodeError as error:
        at = len(error.doc[: error.pos].encode())
        return Rejection(FAILURE_REASON_MALFORMED_JSON, f"JSON is malformed at byte {at}")
    except ValueError:
        return Rejection(FAILURE_REASON_MALFORMED_JSON, "a number has more digits than any reader takes")
    # Python's reader, unlike all others, takes half a surrogate pair; nothing else is left.
    return Rejection(FAILURE_REASON_INVALID_UNICODE, "an escape is half of a surrogate pair")


def too_deep() -> Rejection:
    """Make the refusal of an event that is nested too deep."""
    return Rejection(FAILURE_REASON_TOO_DEEP, f"objects and arrays are nested deeper than {MAX_DEPTH} levels")


def is_deeper(value: object, levels: int) -> bool:
    """Whether a parsed value nests objects and arrays deeper than a number of levels."""
    level: list[Any] = [value]
    for _ in range(levels + 1):
        level = [child for child in level if type(child) is dict or type(child) is list]
        if not level:
            return False
        level = [grandchild for child in level for grandchild in _children(child)]
    return True


def depth_of(text: bytes) -> int:
    """Count the levels of objects and arrays in a text that need not be valid."""
    depth = deepest = position = 0
    while match := _TO_BRACKET.match(text, position):
        depth += 1 if match[1] in b"{[" else -1
        deepest = max(deepest, depth)
        position = match.end()
    return deepest


def join_members(members: Iterable[tuple[str, str]]) -> str:
    """Write an object of keys and values that are JSON text already; empty text when there is none."""
    inner = ",".join(f"{json.dumps(key, ensure_ascii=False)}:{text}" for key, text in members)
    return f"{{{inner}}}" if inner else ""


@lru_cache(256)
def join_objects(base: bytes, own: bytes) -> bytes:
    """Join the texts of two objects, of which either may be empty; a member of `own` replaces that of `base` whole."""
    if not base or not own:
        return own or base
    members = MEMBERS.decode(base) | MEMBERS.decode(own)
    return join_members((key, bytes(raw).decode()) for key, raw in members.items()).encode()


def _children(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if type(container) is dict else container


def _without_non_finite(text: bytes) -> bytes:
    """Write null for each NaN and Infinity outside of strings."""
    out = bytearray()
    position = 0
    # Anchored matches, one after the other: a search would restart inside of strings, and take quadratic time.
    while match := _NON_FINITE.match(text, position):
        out += match[1]
        out += b"null"
        position = match.end()
    out += text[position:]
    return bytes(out)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise _DuplicateKeyError(json.dumps(key[:_MOST_KEY_CHARS]))
        members[key] = value
    return members
