"""What of a message may be seen in a log, derived from the privacy option of each field.

Facts about the machinery and random identifiers stay; of everything else only its data category is shown. A field
without the option, as in other parties' messages, is hidden too. `str(message)` knows nothing of this: never log that.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from clew.options.v1 import privacy_pb2
from clew.options.v1.privacy_pb2 import DataCategory

# Lists are cut after so many items: a log line is no place for a batch.
MAX_ITEMS: Final = 8

_SHOWN: Final = frozenset({DataCategory.DATA_CATEGORY_OPERATIONAL, DataCategory.DATA_CATEGORY_PSEUDONYMOUS_ID})

Render = Callable[[Any], object]


def redact(message: Message) -> dict[str, object]:
    """The fields that are set, by name, each as its value or as `[category]`; lists are cut after 8 items."""
    plan = _plan(message.DESCRIPTOR)
    return {field.name: plan[field.number](value) for field, value in message.ListFields() if not field.is_extension}


@cache
def _plan(descriptor: Descriptor) -> dict[int, Render]:
    """How each field of a message type is shown."""
    return {field.number: _render(field) for field in descriptor.fields}


def _render(field: FieldDescriptor) -> Render:
    category = _category(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_render(field.message_type, category)
    one = _item_render(field, category)
    if not field.is_repeated:
        return one
    # One placeholder for a whole list of hidden values: even their number is none of a log's business.
    return one if isinstance(one, _Hidden) else lambda values: _each(one, values)


def _item_render(field: FieldDescriptor, category: "DataCategory.ValueType") -> Render:
    """How one value of the field is shown. A message of ours is shown by the options of its own fields."""
    if category == DataCategory.DATA_CATEGORY_CREDENTIAL:
        return _Hidden(category)
    if field.message_type is not None and _is_classified(field.message_type):
        return redact
    if category not in _SHOWN:
        return _Hidden(category)
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.message_type is not None:
        return _well_known
    return _scalar


def _map_render(entry: Descriptor, category: "DataCategory.ValueType") -> Render:
    """How a map is shown: its keys are data like its values."""
    if category not in _SHOWN:
        return _Hidden(category)
    one = _item_render(entry.fields_by_name["value"], category)
    return lambda values: {str(key): one(values[key]) for key in sorted(values)[:MAX_ITEMS]}


def _each(one: Render, values: Any) -> list[object]:
    shown = [one(value) for value in values[:MAX_ITEMS]]
    return shown if len(values) <= MAX_ITEMS else [*shown, f"... and {len(values) - MAX_ITEMS} more"]


def _scalar(value: object) -> object:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def _well_known(message: Any) -> str:
    """Times and durations as JSON writes them; what is out of their range is not shown."""
    try:
        return str(message.ToJsonString())
    except (AttributeError, ValueError):
        return f"<{message.DESCRIPTOR.full_name}>"


class _Hidden:
    """Shows a category instead of a value."""

    def __init__(self, category: "DataCategory.ValueType") -> None:
        self._text = f"[{DataCategory.Name(category).removeprefix('DATA_CATEGORY_').lower()}]"

    def __call__(self, _value: object) -> str:
        return self._text


def _category(field: FieldDescriptor) -> "DataCategory.ValueType":
    return field.GetOptions().Extensions[privacy_pb2.privacy].category


def _is_classified(descriptor: Descriptor) -> bool:
    """Whether the fields of a message type carry the privacy option."""
    fields = cast("Iterable[FieldDescriptor]", descriptor.fields)
    return any(field.GetOptions().HasExtension(privacy_pb2.privacy) for field in fields)
