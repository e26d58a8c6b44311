"""Protobuf's wire format, as far as we write it by hand: appending a serialized part costs less than building it anew.

Source: "Encoding" in the Protocol Buffers documentation. Fields may stand in any order.
"""

from functools import lru_cache
from typing import Final

from google.protobuf.message import Message

_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2


@lru_cache(maxsize=65_536)
def varint(value: int) -> bytes:
    """A base-128 varint of a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def part_tag(message: type[Message], field: str) -> bytes:
    """What stands before a message, text or bytes in that field; its length as a varint follows.

    Raises:
        KeyError: The message has no such field.
    """
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


def number_tag(message: type[Message], field: str) -> bytes:
    """What stands before a number in that field.

    Raises:
        KeyError: The message has no such field.
    """
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _VARINT)
