"""The bytes of a body off the wire: by declared length, or in chunks."""

import re

from gateway.http.errors import BodyTooLarge, MalformedHttp
from gateway.http.limits import HttpLimits

# A size, then extensions, which mean nothing to us but must be well formed enough to be no second reading.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


def too_large(limits: HttpLimits) -> BodyTooLarge:
    """The refusal of a body that exceeds the limit as sent."""
    return BodyTooLarge("the body is too large", limit_bytes=str(limits.body_bytes))


class SizedBody:
    """A body of a declared length."""

    __slots__ = ("_data", "_length")

    def __init__(self, length: int, limits: HttpLimits) -> None:
        if length > limits.body_bytes:
            raise too_large(limits)
        self._length = length
        self._data = bytearray()

    @property
    def done(self) -> bool:
        """Whether the whole body is there."""
        return len(self._data) == self._length

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return len(self._data)

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what follows it."""
        wanted = self._length - len(self._data)
        self._data += data[:wanted]
        return data[wanted:]

    def take(self) -> bytes:
        """The body."""
        return bytes(self._data)


class ChunkedBody:
    """A body in chunks (RFC 9112, section 7.1). Extensions and trailers are read, bounded and thrown away."""

    __slots__ = ("_chunks", "_data", "_framing", "_limits", "_line", "_remaining", "_step", "done")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._data = bytearray()
        self._line = bytearray()
        self._remaining = 0
        self._framing = 0
        self._chunks = 0
        self._step = self._on_size
        self.done = False

    @property
    def received(self) -> int:
        """Bytes of the body so far, framing not counted."""
        return len(self._data)

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what follows it.

        Raises:
            MalformedHttp: The framing is broken or larger than a head may be.
            BodyTooLarge: The body exceeds its limit in bytes or chunks.
        """
        position = 0
        while position < len(data) and not self.done:
            position = self._take_data(data, position) if self._remaining else self._take_line(data, position)
        return data[position:]

    def take(self) -> bytes:
        """The body."""
        return bytes(self._data)

    def _take_data(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self._remaining)
        self._data += data[start:end]
        self._remaining -= end - start
        return end

    def _take_line(self, data: bytes, start: int) -> int:
        end = data.find(b"\n", start) + 1
        self._line += data[start : end or len(data)]
        if len(self._line) > self._limits.header_bytes:
            raise MalformedHttp("a chunk's line is too long")
        if not end:
            return len(data)
        line = bytes(self._line)
        self._line.clear()
        self._step(line)
        return end

    def _on_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise MalformedHttp("a chunk's size is malformed")
        self._count_framing(len(line) - len(match[1]) - len(b"\r\n"))
        self._remaining = int(match[1], 16)
        self._chunks += 1
        if len(self._data) + self._remaining > self._limits.body_bytes or self._chunks > self._limits.chunk_count:
            raise too_large(self._limits)
        self._step = self._on_data_end if self._remaining else self._on_trailer

    def _on_data_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise MalformedHttp("a chunk is longer than its size")
        self._step = self._on_size

    def _on_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        self._count_framing(len(line))
        if not _TRAILER.fullmatch(line):
            raise MalformedHttp("a trailer is malformed")

    def _count_framing(self, size: int) -> None:
        self._framing += size
        if self._framing > self._limits.header_bytes:
            raise MalformedHttp("chunk extensions and trailers are too large")
