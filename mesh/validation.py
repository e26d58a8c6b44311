"""The contract's constraints, checked by protovalidate's native engine."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator, Violation

from mesh.errors import InvalidArgument

# One for the process: it keeps what it compiled for each message type.
_validator = Validator()


def validate(message: Message) -> None:
    """Check a message against the constraints of its contract.

    Raises:
        InvalidArgument: It breaks one; field, rule and detail are those of the first, and the detail says how many more
        there are.
    """
    violations = _validator.collect_violations(message)
    if violations:
        raise _refusal(violations)


def warm(message_types: Iterable[type[Message]]) -> None:
    """Compile the constraints of message types ahead of their first use, which takes milliseconds for each."""
    for message_type in message_types:
        _validator.collect_violations(message_type())


def _refusal(violations: list[Violation]) -> InvalidArgument:
    first = violations[0].proto
    elements = first.field.elements if first.field is not None else ()
    field = _path(elements)
    # The engine's own words for what is absent, "value is required", do not say which value.
    detail = f"{field} is required" if first.rule_id == "required" else first.message or first.rule_id or "is not valid"
    more = len(violations) - 1
    if more:
        detail = f"{detail} (and {more} more violation{'s' if more > 1 else ''})"
    return InvalidArgument(detail, field=field, rule=first.rule_id or "")


def _path(elements: Iterable[Any]) -> str:
    """The field as people write it, `items[3].anonymous_id`; keys of maps are a client's data and are not shown."""
    return ".".join(element.field_name + _subscript(element) for element in elements)


def _subscript(element: Any) -> str:
    subscript = element.subscript
    if subscript is None:
        return ""
    return f"[{subscript.value}]" if subscript.field == "index" else "[*]"
