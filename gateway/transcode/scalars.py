"""One plain value of JSON to one of protobuf, by the field's type (protobuf's ProtoJSON format).

Accepted is what a ProtoJSON printer may write and what the format allows beside it: integers as numbers or as digits,
64-bit ones as well, enums by name or number. Nothing else is guessed.
"""

import base64
import binascii
import math
import re
import struct
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

_F = FieldDescriptor

INTEGER_TEXT: Final = r"^(-?(0|[1-9][0-9]{0,18})|1[0-9]{19})$"
"""An integer as text: what 64 bits may hold, and no second spelling of any number."""
NUMBER_TEXT: Final = r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|Infinity|-Infinity)$"

RANGES: Final = MappingProxyType(
    {
        _F.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        _F.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        _F.CPPTYPE_UINT32: (0, 2**32 - 1),
        _F.CPPTYPE_UINT64: (0, 2**64 - 1),
    }
)
"""The least and the greatest value of each integer type."""

_INTEGER = re.compile(INTEGER_TEXT)
_NUMBER = re.compile(NUMBER_TEXT)
_MOST_INTEGER_DOUBLE = 2.0**64


class WrongValue(ValueError):
    """Raised when a value is not of the field's type; the message completes `field X ...`."""


def scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value for a field that is no message, or for one item of it.

    Raises:
        WrongValue: It is of another type, or out of the type's range.
    """
    kind = field.cpp_type
    if kind in RANGES:
        return _integer(value, *RANGES[kind])
    match kind:
        case _F.CPPTYPE_BOOL:
            return _of_type(value, bool, "true or false")
        case _F.CPPTYPE_ENUM:
            return _enum(field, value)
        case _F.CPPTYPE_DOUBLE | _F.CPPTYPE_FLOAT:
            return _float(value, single=kind == _F.CPPTYPE_FLOAT)
        case _ if field.type == _F.TYPE_BYTES:
            return _bytes(value)
        case _:
            return _of_type(value, str, "text")


def from_text(field: FieldDescriptor, text: str) -> Any:
    """Text of a path or a query as the JSON value that it stands for; what makes no sense is left to `scalar`."""
    if field.cpp_type == _F.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    if field.cpp_type == _F.CPPTYPE_ENUM and _INTEGER.fullmatch(text):
        return int(text)
    return text


def _of_type(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise WrongValue(f"must be {name}")
    return value


def _integer(value: Any, least: int, most: int) -> int:
    if type(value) is str and _INTEGER.fullmatch(value):
        value = int(value)
    # JSON knows one kind of number: 1.0 and 1e3 are integers. A larger double is compared as it is, never converted.
    if type(value) is float and abs(value) <= _MOST_INTEGER_DOUBLE and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise WrongValue(f"must be a whole number from {least} to {most}")
    return value


def _float(value: Any, *, single: bool) -> float:
    if type(value) is str and _NUMBER.fullmatch(value):
        if value.lstrip("-") in {"NaN", "Infinity"}:
            return float(value)
        value = float(value)
    if type(value) not in {int, float}:
        raise WrongValue("must be a number")
    try:
        number = float(value)
        # A printer's shortest text of the greatest float is a little greater: what rounds to a float is one.
        rounded = struct.unpack("<f", struct.pack("<f", number))[0] if single else number
    except OverflowError:
        raise WrongValue("is a number too large") from None
    if math.isinf(rounded):
        raise WrongValue("is a number too large")
    return number


def _enum(field: FieldDescriptor, value: Any) -> int:
    if type(value) is str and field.enum_type is not None:
        known = field.enum_type.values_by_name.get(value)
        if known is None:
            raise WrongValue(f"must be one of {', '.join(field.enum_type.values_by_name)}")
        return int(known.number)
    return _integer(value, *RANGES[_F.CPPTYPE_INT32])


def _bytes(value: Any) -> bytes:
    """Base64 in either alphabet, with or without padding."""
    text = str(_of_type(value, str, "base64 text")).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WrongValue("must be base64 text") from None
