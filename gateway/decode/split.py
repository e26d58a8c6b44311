"""Finds the events of a batch whose text is no valid JSON, so that one broken event does not take its neighbours along.

The scanner follows brackets and strings only. Rules bring it back after a fault, each by a thing that valid JSON never
has: a closing bracket of the wrong kind closes what it can; inside an object, `,{` begins the next event; a quote
behind whose end no `: , } ]` follows opened no string; the batch ends only where what follows can be its end, so that a
stray bracket in one event does not cut off those behind it.
The time is linear in the text.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.decode.errors import UnreadableBody
from gateway.decode.text import MEMBERS
from gateway.decode.types import MAX_BATCH_ELEMENTS, MAX_EVENT_BYTES

# Groups are atomic, not possessive: Python 3.11 before 3.11.5 gives up too early on a possessive group (gh-101955).
_GOOD_STRING: Final = rb'"(?>(?:[^"\\\x00-\x1f]+|\\[^\x00-\x1f])*)"(?=\s*+[:,}\]])'
# Escapes outside of strings are taken in pairs: text full of quotes that open nothing still costs linear time.
_FILLER: Final = rb'[^"{}\[\],\\]++|' + _GOOD_STRING + rb'|\\.?+|"'
# To the next thing that matters among the events of the array, and within one event.
_BETWEEN = re.compile(rb"(?>(?:" + _FILLER + rb")*)([{}\[\],])", re.DOTALL)
_WITHIN = re.compile(rb"(?>(?:" + _FILLER + rb"|,(?!\s*+\{))*)([{}\[\],])", re.DOTALL)
_BATCH_ARRAY = re.compile(rb'"batch"\s*+:\s*+\[')
_BLANK_END = re.compile(rb"\s*+\Z")
_OPENER: Final = {ord("}"): ord("{"), ord("]"): ord("[")}
# A batch of 4 MB has some 100,000 brackets. More cost more time than a broken body is worth.
_MOST_STEPS: Final = 125_000
_MOST_CANDIDATES: Final = 8
# Places at which the batch could end that are looked into; any after them is taken as it comes.
_MOST_ENDS: Final = 64


_CanEnd = Callable[[bytes, int], bool]
"""Whether what follows the closing bracket of the events, from a position on, can be the end of the body."""


class _NoEndFits(UnreadableBody):
    """Raised when the body ends and no bracket before was taken for the end of the batch."""


class _Scanner:
    """A position in a body, with a bound on the steps that the scan may take."""

    def __init__(self, body: bytes, position: int, can_end: _CanEnd) -> None:
        self._body = body
        self._position = position
        self._can_end = can_end
        self._steps = 0
        self._ends = 0

    def elements(self) -> tuple[list[bytes], int]:
        """Split the array that begins before the position; answer its elements and where it ends."""
        elements: list[bytes] = []
        begin = self._position
        while True:
            token = self._next(_BETWEEN)
            if token in b"{[":
                self._skip(token)
            elif token == b"," or (token == b"]" and self._at_end()):
                element = self._body[begin : self._position - 1].strip()
                begin = self._position
                if element or token == b",":
                    elements.append(element)
                if token == b"]":
                    return elements, self._position
                refuse_too_many(len(elements))

    def _skip(self, opener: bytes) -> None:
        """Move behind the end of the object or array that was just opened, or to where the next element begins."""
        opened = bytearray(opener)
        while opened:
            token = self._next(_WITHIN)
            if token in b"{[":
                opened += token
                if len(opened) > MAX_EVENT_BYTES:
                    raise UnreadableBody(_no_end(self._position))
            elif token == b",":
                if opened[-1] == _OPENER[ord("}")]:
                    self._position -= 1
                    return
            elif not _close(opened, token) and token == b"]" and self._at_end():
                # Nothing here was opened with it: it closes the batch.
                self._position -= 1
                return

    def _at_end(self) -> bool:
        self._ends += 1
        return self._ends > _MOST_ENDS or self._can_end(self._body, self._position)

    def _next(self, pattern: re.Pattern[bytes]) -> bytes:
        match = pattern.match(self._body, self._position)
        self._steps += 1
        if match is None:
            raise _NoEndFits(_no_end(self._position))
        if self._steps > _MOST_STEPS:
            raise UnreadableBody(_no_end(self._position))
        self._position = match.end()
        return match[1]


def split_batch(body: bytes) -> tuple[bytes, list[bytes]] | None:
    """Split a body at its top-level `batch` array: the rest, with null for the array, and the array's elements.

    None when there is no such array. The rest is not checked.

    Raises:
        UnreadableBody: The array has no end, or more elements than any client sends.
    """
    for number, match in enumerate(_BATCH_ARRAY.finditer(body)):
        if number == _MOST_CANDIDATES:
            break
        begin = match.end() - 1
        if _levels(body[: match.start()]) == 1:
            elements, end = _scan(body, begin + 1, _ends_batch)
            return body[:begin] + b"null" + body[end:], elements
    return None


def split_array(body: bytes) -> list[bytes]:
    """Split a body that is an array into its elements.

    Raises:
        UnreadableBody: The array has no end, something follows it, or it has more elements than any client sends.
    """
    elements, end = _scan(body, body.index(b"[") + 1, _ends_array)
    if body[end:].strip():
        raise UnreadableBody(f"JSON is malformed at byte {end}: something follows the array")
    return elements


def _scan(body: bytes, begin: int, can_end: _CanEnd) -> tuple[list[bytes], int]:
    """The elements of the array that begins there, and its end; where none fits, the first closing bracket is it."""
    try:
        return _Scanner(body, begin, can_end).elements()
    except _NoEndFits:
        return _Scanner(body, begin, lambda _, __: True).elements()


def _no_end(position: int) -> str:
    return f"JSON is malformed at byte {position}: the batch has no end"


def _ends_batch(body: bytes, begin: int) -> bool:
    """Whether only members beside the batch follow, and the end of the object."""
    if len(body) - begin > MAX_EVENT_BYTES:
        return False
    try:
        MEMBERS.decode(b'{"":0' + body[begin:])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


def _ends_array(body: bytes, begin: int) -> bool:
    return _BLANK_END.match(body, begin) is not None


def _close(opened: bytearray, closer: bytes) -> bool:
    """Close the innermost bracket of the closer's kind, and those left open inside it; False: there is none."""
    position = opened.rfind(_OPENER[closer[0]])
    if position < 0:
        return False
    del opened[position:]
    return True


def _levels(text: bytes) -> int:
    """How many brackets a text leaves open."""
    levels = position = 0
    while match := _BETWEEN.match(text, position):
        levels += (match[1] in b"{[") - (match[1] in b"}]")
        position = match.end()
    return levels


def refuse_too_many(count: int) -> None:
    """Refuse a batch of more elements than any client sends.

    Raises:
        UnreadableBody: It has more.
    """
    if count > MAX_BATCH_ELEMENTS:
        raise UnreadableBody(f"the batch has more than {MAX_BATCH_ELEMENTS} elements; send it in parts")
