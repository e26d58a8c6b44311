"""Compressed bodies, inflated within bounds and without holding up the event loop.

What decides is the bytes, not the label: some SDKs send gzip without saying so, and some proxies inflate a body and
leave the label on.
"""

import asyncio
import zlib
from concurrent.futures import Executor

from gateway.http.errors import BodyTooLarge, UnreadableBody, UnsupportedEncoding
from gateway.http.limits import KIB, HttpLimits

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_RAW_WBITS = -zlib.MAX_WBITS
_SUPPORTED = frozenset({b"gzip", b"x-gzip", b"deflate"})
# About half a millisecond of work. More, going in or coming out, is for a thread: zlib gives the interpreter up there.
_INLINE_INPUT = 64 * KIB
_INLINE_OUTPUT = 256 * KIB
# What comes out at once: a piece is copied, so that it is small beside the limit.
_PIECE = 512 * KIB
# Honest writers flush into one member, or a few; each costs a copy of all that follows it.
_MEMBERS = 16


def encoded(body: bytes, content_encoding: bytes | None) -> int | None:
    """The zlib window bits to inflate `body` with, or None when it is not compressed.

    Raises:
        UnsupportedEncoding: The encoding is none of gzip, deflate and identity, or there are several.
    """
    label = _label(content_encoding) if content_encoding is not None else b""
    if body.startswith(_GZIP_MAGIC):
        return _GZIP_WBITS
    if label != b"deflate" or not body:
        return None
    return zlib.MAX_WBITS if _has_zlib_header(body) else _RAW_WBITS


async def inflate(body: bytes, wbits: int, limits: HttpLimits, pool: Executor) -> bytes:
    """`body` inflated; a large one in a thread of `pool`.

    Raises:
        BodyTooLarge: The result exceeds the limit, or the ratio.
        UnreadableBody: The body is damaged or ends early.
    """
    if len(body) <= _INLINE_INPUT:
        inflated = _Inflation(body, wbits, limits).run(_INLINE_OUTPUT)
        if inflated is not None:
            return inflated
    # From the beginning, so that what waits for a thread holds no output: many may wait.
    return await asyncio.get_running_loop().run_in_executor(pool, _in_thread, body, wbits, limits)


def _in_thread(body: bytes, wbits: int, limits: HttpLimits) -> bytes:
    inflated = _Inflation(body, wbits, limits).run(limits.inflated_bytes)
    if inflated is None:
        raise RuntimeError("a body within the limit is inflated whole")
    return inflated


def _label(content_encoding: bytes) -> bytes:
    labels = [label.strip() for label in content_encoding.lower().split(b",")]
    wanted = [label for label in labels if label not in {b"", b"identity"}]
    if len(wanted) > 1 or not _SUPPORTED.issuperset(wanted):
        raise UnsupportedEncoding(
            "send gzip, deflate or no encoding", encoding=content_encoding[:64].decode("ascii", "replace")
        )
    return wanted[0] if wanted else b""


def _has_zlib_header(body: bytes) -> bool:
    """RFC 1950: `deflate` names the zlib format; many clients send the bare stream all the same."""
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0


class _Inflation:
    """One body on its way out, in steps of bounded output."""

    __slots__ = ("_left", "_limits", "_members", "_out", "_sent", "_stream", "_wbits")

    def __init__(self, body: bytes, wbits: int, limits: HttpLimits) -> None:
        self._sent = len(body)
        self._left = body
        self._wbits = wbits
        self._limits = limits
        self._stream = zlib.decompressobj(wbits)
        self._members = 1
        self._out = bytearray()

    def run(self, budget: int) -> bytes | None:
        """All that comes out; None when that is more than `budget` bytes and no limit is exceeded."""
        while self._left or not self._stream.eof:
            room = budget + 1 - len(self._out)
            if room <= 0:
                return None
            self._advance(min(room, _PIECE))
            self._check_size()
        return bytes(self._out)

    def _advance(self, room: int) -> None:
        if self._stream.eof:
            self._next_member()
        try:
            piece = self._stream.decompress(self._left, room)
        except zlib.error:
            raise UnreadableBody("the compressed body is damaged") from None
        self._left = self._stream.unconsumed_tail or self._stream.unused_data
        self._out += piece
        if not piece and not self._left and not self._stream.eof:
            raise UnreadableBody("the compressed body ends early")

    def _next_member(self) -> None:
        """RFC 1952: gzip members may follow one another; nothing else may follow."""
        if self._wbits != _GZIP_WBITS or not self._left.startswith(_GZIP_MAGIC):
            raise UnreadableBody("bytes follow the compressed body")
        self._members += 1
        if self._members > _MEMBERS:
            raise UnreadableBody("the compressed body has too many members")
        self._stream = zlib.decompressobj(self._wbits)

    def _check_size(self) -> None:
        size = len(self._out)
        if size > self._limits.inflated_bytes:
            raise self._refused("the inflated body is too large", limit_bytes=str(self._limits.inflated_bytes))
        if size > max(self._limits.inflation_free_bytes, self._sent * self._limits.inflation_ratio):
            raise self._refused("the body inflates too steeply", limit_ratio=str(self._limits.inflation_ratio))

    def _refused(self, detail: str, **limit: str) -> BodyTooLarge:
        # The traceback leads to this object and lives until the answer is out: megabytes must not.
        self._out = bytearray()
        return BodyTooLarge(detail, **limit)
