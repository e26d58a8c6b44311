"""Heads that come again.

A client library sends the same head with every request of a connection, but for the digits of Content-Length. What was
read strictly once (`gateway/http/head.py`) need not be read again: equal bytes mean the same, and this costs a sixth of
it.
"""

import re
from typing import Final

from gateway.http.head import MOST_LENGTH_DIGITS, Head
from gateway.http.message import Headers

MOST_BYTES: Final = 2048
"""Longer heads are not remembered: every connection remembers one."""

_NAME: Final = b"content-length"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)


class RepeatedHead:
    """One head, and the bytes around the digits of its Content-Length."""

    __slots__ = ("_after", "_before", "_digits", "_head")

    def __init__(self, head: Head, before: bytes, digits: bytes, after: bytes) -> None:
        self._head = head
        self._before = before
        self._digits = digits
        self._after = after

    @classmethod
    def of(cls, raw: bytes, head: Head) -> "RepeatedHead | None":
        """Remember a head and the bytes that it was read from; None: it is long, or has no length that stands once."""
        if len(raw) > MOST_BYTES or head.length < 0:
            return None
        found = _LENGTH.search(raw)
        if found is None:
            return None
        return cls(head, raw[: found.start(1)], found[1], raw[found.end(1) :])

    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head that the bytes begin with, and what follows it; None when it is another one, or not all there."""
        before, after = self._before, self._after
        begin = len(before)
        if not data.startswith(before):
            return None
        end = data.find(b"\r", begin, begin + MOST_LENGTH_DIGITS + 1)
        if end < 0 or not data.startswith(after, end):
            return None
        digits = data[begin:end]
        if digits == self._digits:
            head = self._head
        elif digits.isdigit():
            head = self._with_length(digits)
        else:
            return None
        return head, data[end + len(after) :]

    def _with_length(self, digits: bytes) -> Head:
        head = self._head
        fields = [(name, digits if name == _NAME else value) for name, value in head.headers.raw]
        return Head(
            head.method, head.path, head.query, Headers(fields), int(digits), head.keep_alive, head.http_1_0,
            head.expects_continue, head.raw_path,
        )  # fmt: skip
