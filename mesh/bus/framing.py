"""Confluent's Schema Registry wire format for protobuf.

A framed value is the byte 0, the schema's id as four bytes big-endian, the path to the message type within the schema's
file as zigzag varints (their count, then each; `[0]`, the file's first message, is the single byte 0), and the message.
Source: "Wire format" in Confluent's documentation of the Schema Registry's serializers.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

_MAGIC = 0
_HEADER = struct.Struct(">BI")
_FIRST_MESSAGE = (0,)
# A varint of more bytes would be past 64 bits, a path of more steps deeper than protobuf lets messages nest.
_MAX_VARINT_BYTES = 10
_MAX_INDEX_STEPS = 32


class FramingError(ValueError):
    """The value is not in the wire format; the message says which part is not."""


class Framed(NamedTuple):
    """A value taken apart; `message_index` is the path to the message type within the schema's file."""

    schema_id: int
    message_index: tuple[int, ...]
    payload: bytes


def frame_prefix(schema_id: int, index: Sequence[int] = _FIRST_MESSAGE) -> bytes:
    """What stands before every message of one type; six bytes when the type is the first of its file.

    Raises:
        FramingError: The id does not fit into 32 bits, or the index is empty or negative.

    """
    if not 0 <= schema_id <= 0xFFFFFFFF:
        raise FramingError(f"schema id {schema_id} does not fit into 32 bits")
    if not index or min(index) < 0:
        raise FramingError("a message index has at least one step and no negative one")
    path = b"\0" if tuple(index) == _FIRST_MESSAGE else b"".join(map(_varint, (len(index), *index)))
    return _HEADER.pack(_MAGIC, schema_id) + path


def split(value: bytes) -> Framed:
    """Take a framed value apart.

    Raises:
        FramingError: The value is too short, has another magic byte or an impossible index.

    """
    if len(value) <= _HEADER.size:
        raise FramingError(f"{len(value)} bytes are too few for a framed value")
    magic, schema_id = _HEADER.unpack_from(value)
    if magic != _MAGIC:
        raise FramingError(f"the first byte is {magic}, not the magic byte 0")
    steps, at = _read_varint(value, _HEADER.size)
    if not 0 <= steps <= _MAX_INDEX_STEPS:
        raise FramingError(f"a message index of {steps} steps is impossible")
    index = []
    for _ in range(steps):
        step, at = _read_varint(value, at)
        if step < 0:
            raise FramingError("a message index has no negative step")
        index.append(step)
    return Framed(schema_id, tuple(index) or _FIRST_MESSAGE, value[at:])


def parse(value: bytes) -> tuple[int, bytes]:
    """The schema id and the bare message of a framed value, whatever its message index.

    Raises:
        FramingError: As for `split`.

    """
    framed = split(value)
    return framed.schema_id, framed.payload


def _varint(number: int) -> bytes:
    """A number that is not negative as zigzag varint."""
    rest = number << 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _read_varint(value: bytes, at: int) -> tuple[int, int]:
    """The zigzag varint at a position, and the position after it."""
    number = 0
    for length, byte in enumerate(value[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * length)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + length + 1
    raise FramingError("the message index does not end")
