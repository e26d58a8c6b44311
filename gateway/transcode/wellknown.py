"""The messages of google.protobuf that ProtoJSON writes in a form of their own."""

import re
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

from gateway.transcode.scalars import WrongValue, scalar

_PACKAGE: Final = "google.protobuf."
_NAME: Final = "[a-z][A-Za-z0-9]*(_[a-z][A-Za-z0-9]*)*"
_PATH: Final = rf"{_NAME}(\.{_NAME})*"
_OFFSET: Final = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
WRAPPERS: Final = frozenset(
    f"{_PACKAGE}{name}Value"
    for name in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String", "Bytes")
)
TEXTS: Final = MappingProxyType(
    {
        f"{_PACKAGE}Timestamp": (
            rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]{{1,9}})?{_OFFSET}$",
            "an RFC 3339 time like 2026-11-25T10:00:00Z",
        ),
        f"{_PACKAGE}Duration": (r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "a duration in seconds like 600s"),
        f"{_PACKAGE}FieldMask": (
            rf"^({_PATH}(,{_PATH})*)?$",
            "field paths, separated by commas, like displayName,limits.burst",
        ),
    }
)
"""The ones that are text: their pattern, and the form in words. protobuf's own readers take more than the format."""
FREE: Final = frozenset(f"{_PACKAGE}{name}" for name in ("Struct", "Value", "ListValue", "Any", "Empty"))
"""The ones whose JSON is free, or an object of whatever they hold."""

# Paths are names of fields, which may be written as the contract spells them; protobuf's reader takes one spelling.
_MASK: Final = f"{_PACKAGE}FieldMask"
_UNDERSCORE: Final = re.compile(r"_([a-z])")
_PATTERNS: Final = {name: re.compile(pattern) for name, (pattern, _) in TEXTS.items()}


def is_well_known(message: Descriptor) -> bool:
    """Whether the message has a JSON form of its own."""
    return message.full_name in TEXTS or message.full_name in WRAPPERS or message.full_name in FREE


def has_text_form(message: Descriptor) -> bool:
    """Whether the message can stand in a query as one text."""
    return message.full_name in TEXTS or message.full_name in WRAPPERS


def takes_null(message: Descriptor | None) -> bool:
    """Whether JSON's null is a value of the message, and not its absence."""
    return message is not None and message.full_name == f"{_PACKAGE}Value"


def fill_well_known(message: Any, value: Any) -> None:
    """Set a well-known message from its JSON form.

    Raises:
        WrongValue: The value is not of that form.
    """
    name = message.DESCRIPTOR.full_name
    if name in WRAPPERS:
        message.SetInParent()
        setattr(message, "value", scalar(message.DESCRIPTOR.fields_by_name["value"], value))  # noqa: B010 - by descriptor
        return
    form = TEXTS.get(name)
    if form is not None and not (isinstance(value, str) and _PATTERNS[name].fullmatch(value)):
        raise WrongValue(f"must be {form[1]}")
    if name == _MASK:
        value = _UNDERSCORE.sub(lambda match: match[1].upper(), value)
    message.SetInParent()
    try:
        json_format.ParseDict(value, message)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError):
        raise WrongValue(f"must be {form[1] if form else f'a {message.DESCRIPTOR.name} as JSON'}") from None
