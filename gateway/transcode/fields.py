"""JSON to a message, strictly: whatever does not fit is refused by the name of its field.

protobuf's own reader takes one form for another and says what is wrong in prose; a client of an API wants the field.
"""

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2
from gateway.transcode.binding import FieldPath, dotted, find_field
from gateway.transcode.scalars import WrongValue, from_text, scalar
from gateway.transcode.wellknown import fill_well_known, is_well_known, takes_null
from mesh.errors import InvalidArgument

_MOST_SHOWN: Final = 128
_MOST_ITEMS: Final = 10_000
"""Of a list or map whose contract names no limit."""


def refuse(at: str, what: str, rule: str) -> InvalidArgument:
    """The refusal of a field: what is wrong with it in words, and the rule that it breaks."""
    shown = at[:_MOST_SHOWN]
    return InvalidArgument(f"{shown or 'the body'} {what}", field=shown, rule=rule)


def fill_message(message: Any, value: Any, *, at: str = "", bound: Collection[str] = ()) -> None:
    """Set the fields of a message from an object.

    Args:
        message: Where they are set.
        value: The object, of proto or JSON names; null leaves a field out.
        at: The path of the message in its request, for refusals.
        bound: Paths that were set from elsewhere, and must not occur.

    Raises:
        InvalidArgument: A field is unknown, bound, named twice, of another type, or one of two of a oneof.
    """
    if type(value) is not dict:
        raise refuse(at, "must be an object", "type")
    seen: set[str] = set()
    for key, inner in value.items():
        field = find_field(message.DESCRIPTOR, key)
        if field is None:
            raise refuse(f"{at}.{key}" if at else key, "is no field of this request", "unknown_field")
        path = f"{at}.{field.name}" if at else field.name
        if path in bound:
            raise refuse(path, "stands in the path, so it must not stand in the body", "collision")
        if field.name in seen:
            raise refuse(path, "stands twice", "collision")
        seen.add(field.name)
        if inner is not None or takes_null(field.message_type):
            fill_field(message, field, inner, at=path, bound=bound)


def fill_field(message: Any, field: FieldDescriptor, value: Any, *, at: str, bound: Collection[str] = ()) -> None:
    """Set one field from its JSON form; see `fill_message`."""
    _refuse_second_of_oneof(message, field, at)
    if is_map(field):
        _fill_map(getattr(message, field.name), field, value, at)
    elif field.is_repeated:
        _fill_list(getattr(message, field.name), field, value, at)
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _fill_inner(inner, value, at, bound)
    else:
        setattr(message, field.name, _scalar(field, value, at))


def fill_path(message: Any, path: FieldPath, text: str) -> None:
    """Set the field at the end of a path from text. Raises as `fill_message`."""
    fill_field(_holder(message, path), path[-1], from_text(path[-1], text), at=dotted(path))


def fill_texts(message: Any, path: FieldPath, texts: list[str]) -> None:
    """Set the field at the end of a path from the texts of a query's parameters. Raises as `fill_message`."""
    field, at = path[-1], dotted(path)
    values = [_from_text(field, text) for text in texts]
    if not field.is_repeated and len(values) > 1:
        raise refuse(at, "stands twice", "collision")
    fill_field(_holder(message, path), field, values if field.is_repeated else values[0], at=at)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _from_text(field: FieldDescriptor, text: str) -> Any:
    """As `from_text`, and a wrapper's text as the text of its value."""
    inner = field.message_type
    wrapped = None if inner is None else inner.fields_by_name.get("value")
    return from_text(field if wrapped is None else wrapped, text)


def _holder(message: Any, path: FieldPath) -> Any:
    """The message that holds the last field of a path."""
    at = ""
    for field in path[:-1]:
        at = f"{at}.{field.name}" if at else field.name
        _refuse_second_of_oneof(message, field, at)
        message = getattr(message, field.name)
        message.SetInParent()
    return message


def _refuse_second_of_oneof(message: Any, field: FieldDescriptor, at: str) -> None:
    group = field.containing_oneof
    if group is not None:
        other = message.WhichOneof(group.name)
        if other is not None and other != field.name:
            raise refuse(at, f"cannot stand beside {other}: only one of them can be set", "oneof")


def _fill_inner(message: Any, value: Any, at: str, bound: Collection[str]) -> None:
    if not is_well_known(message.DESCRIPTOR):
        fill_message(message, value, at=at, bound=bound)
        return
    try:
        fill_well_known(message, value)
    except WrongValue as error:
        raise refuse(at, str(error), "type") from None


def _fill_list(items: Any, field: FieldDescriptor, value: Any, at: str) -> None:
    if type(value) is not list:
        raise refuse(at, "must be a list", "type")
    _check_count(len(value), _rules(field).repeated.max_items, at, "repeated.max_items")
    if field.message_type is None:
        items.extend([_scalar(field, item, f"{at}[{index}]") for index, item in enumerate(value)])
        return
    for index, item in enumerate(value):
        _fill_inner(items.add(), item, f"{at}[{index}]", ())


def _fill_map(entries: Any, field: FieldDescriptor, value: Any, at: str) -> None:
    """Set the entries of a map; keys are the client's data and stand in no refusal."""
    if type(value) is not dict:
        raise refuse(at, "must be an object", "type")
    _check_count(len(value), _rules(field).map.max_pairs, at, "map.max_pairs")
    entry: Any = field.message_type
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for text, inner in value.items():
        key = _scalar(key_field, from_text(key_field, text), f"{at}[*]")
        if value_field.message_type is None:
            entries[key] = _scalar(value_field, inner, f"{at}[*]")
        else:
            _fill_inner(entries[key], inner, f"{at}[*]", ())


def _check_count(count: int, most: int, at: str, rule: str) -> None:
    """Refuse what is too long before it is built: of empty items a small body holds millions.

    Most that a contract allows is checked where the rpc runs; this one rule is cheaper to keep than to repair.
    """
    limit = most or _MOST_ITEMS
    if count > limit:
        raise refuse(at, f"must have at most {limit} items", rule)


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    return field.GetOptions().Extensions[validate_pb2.field]


def _scalar(field: FieldDescriptor, value: Any, at: str) -> Any:
    try:
        return scalar(field, value)
    except WrongValue as error:
        raise refuse(at, str(error), "type") from None
