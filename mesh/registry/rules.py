"""Whether a new version of a proto file breaks readers, writers or generated code of the old one.

The rules are those of `buf breaking` in its category FILE, for what a schema of a topic can hold: messages, enums,
extensions and the file's own options. A test lets buf judge the same pairs. Source: "Breaking change rules", buf's
documentation.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

T = TypeVar("T")

_LABELS: Final = FieldDescriptorProto.Label
_TYPES: Final = FieldDescriptorProto.Type
# What decides how generated code looks, per file and per field.
_FILE_OPTIONS: Final = (
    "cc_enable_arenas", "cc_generic_services", "csharp_namespace", "go_package", "java_generic_services",
    "java_multiple_files", "java_outer_classname", "java_package", "java_string_check_utf8", "objc_class_prefix",
    "optimize_for", "php_class_prefix", "php_metadata_namespace", "php_namespace", "py_generic_services",
    "ruby_package", "swift_prefix",
)  # fmt: skip
_FIELD_OPTIONS: Final = ("ctype", "jstype")


def breaking_changes(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """What breaks, one line each for people; empty when the new version may follow the old one."""
    return list(_file(old, new))


def _file(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    if old.package != new.package:
        yield f"the package changed from {old.package!r} to {new.package!r}"
    if (old.syntax or "proto2") != (new.syntax or "proto2"):
        yield f"the syntax changed from {old.syntax or 'proto2'} to {new.syntax or 'proto2'}"
    for option in _FILE_OPTIONS:
        if getattr(old.options, option) != getattr(new.options, option):
            yield f"the file option {option} changed"
    yield from _messages(old.message_type, new.message_type, "")
    yield from _enums(old.enum_type, new.enum_type, "")
    yield from _extensions(old.extension, new.extension, "")
    services = {service.name for service in new.service}
    yield from (f"service {service.name} was deleted" for service in old.service if service.name not in services)


def _messages(old: Iterable[DescriptorProto], new: Iterable[DescriptorProto], scope: str) -> Iterator[str]:
    found = {message.name: message for message in new}
    for message in old:
        name = scope + message.name
        if message.name not in found:
            yield f"message {name} was deleted"
        else:
            yield from _message(message, found[message.name], name)


def _message(old: DescriptorProto, new: DescriptorProto, name: str) -> Iterator[str]:
    scope = f"{name}."
    yield from _messages(old.nested_type, new.nested_type, scope)
    yield from _enums(old.enum_type, new.enum_type, scope)
    yield from _extensions(old.extension, new.extension, scope)
    yield from _fields(old, new, name)
    oneofs = {oneof.name for oneof in new.oneof_decl}
    synthetic = {field.oneof_index for field in old.field if field.proto3_optional}
    for index, oneof in enumerate(old.oneof_decl):
        if oneof.name not in oneofs and index not in synthetic:
            yield f"oneof {scope}{oneof.name} was deleted"
    yield from _reserved(old, new, name, beyond=0)
    yield from _uncovered("extension range", old.extension_range, new.extension_range, name, beyond=0)
    for option in ("message_set_wire_format", "no_standard_descriptor_accessor"):
        if getattr(old.options, option) != getattr(new.options, option):
            yield f"message {name}: the option {option} changed"


def _fields(old: DescriptorProto, new: DescriptorProto, name: str) -> Iterator[str]:
    found = {field.number: field for field in new.field}
    for field in old.field:
        if field.number not in found:
            yield f"field {name}.{field.name} ({field.number}) was deleted"
            continue
        yield from _field(field, found[field.number], f"field {name}.{field.name} ({field.number})")
        groups = [_oneof(message, each) for message, each in ((old, field), (new, found[field.number]))]
        if groups[0] != groups[1]:
            yield f"field {name}.{field.name} ({field.number}) moved from oneof {groups[0]} to {groups[1]}"
    required = ({field.number for field in each.field if field.label == _LABELS.LABEL_REQUIRED} for each in (old, new))
    before, after = required
    for number in sorted(after - before - {field.number for field in old.field}):
        yield f"message {name}: the required field {number} was added"


def _field(old: FieldDescriptorProto, new: FieldDescriptorProto, what: str) -> Iterator[str]:
    if old.name != new.name:
        yield f"{what} is called {new.name} now"
    if _kind(old) != _kind(new):
        yield f"{what} changed its type from {_kind(old)} to {_kind(new)}"
    if _cardinality(old) != _cardinality(new):
        yield f"{what} changed from {_cardinality(old)} to {_cardinality(new)}"
    if _json_name(old) != _json_name(new):
        yield f"{what} changed its JSON name from {_json_name(old)} to {_json_name(new)}"
    if old.default_value != new.default_value:
        yield f"{what} changed its default from {old.default_value!r} to {new.default_value!r}"
    for option in _FIELD_OPTIONS:
        if getattr(old.options, option) != getattr(new.options, option):
            yield f"{what}: the option {option} changed"


def _kind(field: FieldDescriptorProto) -> str:
    """The type, with the name of the message or enum."""
    return f"{_TYPES.Name(field.type).removeprefix('TYPE_').lower()} {field.type_name.removeprefix('.')}".rstrip()


def _cardinality(field: FieldDescriptorProto) -> str:
    if field.proto3_optional:
        return "optional, with presence"
    return _LABELS.Name(field.label).removeprefix("LABEL_").lower()


def _json_name(field: FieldDescriptorProto) -> str:
    """As it is given, or as protoc derives it: descriptors may leave out what is derived."""
    if field.json_name:
        return field.json_name
    first, *rest = field.name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _oneof(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    if field.proto3_optional or not field.HasField("oneof_index"):
        return "none"
    # What a client sends was built by no compiler: the group may not be there.
    groups, index = message.oneof_decl, field.oneof_index
    return groups[index].name if 0 <= index < len(groups) else f"number {index}"


def _extensions(old: Iterable[FieldDescriptorProto], new: Iterable[FieldDescriptorProto], scope: str) -> Iterator[str]:
    found = {(field.extendee, field.number): field for field in new}
    for field in old:
        what = f"extension {scope}{field.name} ({field.number})"
        after = found.get((field.extendee, field.number))
        if after is None:
            yield f"{what} was deleted"
        else:
            yield from _field(field, after, what)


def _enums(old: Iterable[EnumDescriptorProto], new: Iterable[EnumDescriptorProto], scope: str) -> Iterator[str]:
    found = {enum.name: enum for enum in new}
    for enum in old:
        name = scope + enum.name
        if enum.name not in found:
            yield f"enum {name} was deleted"
            continue
        after = found[enum.name]
        before_names, after_names = _names_by_number(enum), _names_by_number(after)
        for number, names in before_names.items():
            if number not in after_names:
                yield f"enum value {name}.{min(names)} ({number}) was deleted"
            elif not names <= after_names[number]:
                yield f"enum value {number} of {name} is called {', '.join(sorted(after_names[number]))} now"
        yield from _reserved(enum, after, name, beyond=1)


def _names_by_number(enum: EnumDescriptorProto) -> Mapping[int, set[str]]:
    names: dict[int, set[str]] = {}
    for value in enum.value:
        names.setdefault(value.number, set()).add(value.name)
    return names


def _reserved(old: Any, new: Any, name: str, *, beyond: int) -> Iterator[str]:
    """What was reserved stays so."""
    for gone in sorted(set(old.reserved_name) - set(new.reserved_name)):
        yield f"{name}: the reserved name {gone} was freed"
    yield from _uncovered("reserved range", old.reserved_range, new.reserved_range, name, beyond=beyond)


def _uncovered(what: str, old: Iterable[Any], new: Iterable[Any], name: str, *, beyond: int) -> Iterator[str]:
    """Ranges of which not every number lies in one of the new ranges; enums' ends belong to them (`beyond` 1)."""
    after = sorted((each.start, each.end + beyond) for each in new)
    for each in old:
        at, end = each.start, each.end + beyond
        for start, stop in after:
            if start <= at < stop:
                at = stop
        if at < end:
            yield f"{name}: the {what} {each.start} to {end - 1} was freed"
