"""How records stand in a segment: one behind the other, each with its length and a checksum over both.

    segment = magic, frame*        frame = length (u32), CRC-32 of length and payload (u32), payload

A write that was cut short anywhere leaves a beginning of valid frames and a rest that is none, so what was acknowledged
(which was written and synced as a whole) is always found. CRC-32 finds torn and rotten data; it is no seal.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"CLEWSPL1"
"""How every segment begins; the digit is the version of this format."""
MAX_PAYLOAD_BYTES: Final = 256 << 20
"""More is no length: it is damage."""
_LENGTH: Final = struct.Struct("<I")
_HEADER: Final = struct.Struct("<II")
HEADER_BYTES: Final = _HEADER.size


class Frame(NamedTuple):
    """One record, and the offset at which it ends in what it was read from."""

    payload: bytes
    end: int


def frame(payload: bytes) -> bytes:
    """The record as it stands in a segment.

    Raises:
        ValueError: It is empty or too large.
    """
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise ValueError(f"a record has 1 to {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    return _HEADER.pack(len(payload), _checksum(payload)) + payload


def frames(data: bytes, start: int = 0) -> Iterator[Frame]:
    """The whole and undamaged records from `start` on, up to the first that is not."""
    size = len(data)
    while start + HEADER_BYTES <= size:
        length, checksum = _HEADER.unpack_from(data, start)
        begin, end = start + HEADER_BYTES, start + HEADER_BYTES + length
        if not 0 < length <= MAX_PAYLOAD_BYTES or end > size:
            return
        payload = data[begin:end]
        if _checksum(payload) != checksum:
            return
        yield Frame(payload, end)
        start = end


def wanted(data: bytes, start: int = 0) -> int:
    """How many bytes from `start` on the record there takes by its own word; 0 when that cannot be read."""
    if start + HEADER_BYTES > len(data):
        return 0
    (length,) = _LENGTH.unpack_from(data, start)
    return HEADER_BYTES + int(length)


def _checksum(payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_LENGTH.pack(len(payload))))
