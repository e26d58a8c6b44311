"""protovalidate's rules as JSON Schema, where JSON Schema has a word for them; all others stay words of the comment."""

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor, OneofDescriptor

from buf.validate import validate_pb2

Schema = dict[str, Any]

_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_NUMBERS: Final = ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "float", "double")
_BOUNDS: Final = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """The rules of a field."""
    return field.GetOptions().Extensions[validate_pb2.field]


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without the field breaks a rule."""
    rules = rules_of(field)
    if rules.required:
        return True
    if field.has_presence or rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return False
    string, repeated = rules.string, rules.repeated
    return bool(string.min_len or string.uuid or repeated.min_items or 0 in rules.enum.not_in)


def is_ignored(field: FieldDescriptor) -> bool:
    """Whether the rules inside of the field's messages are not looked at."""
    rules = rules_of(field)
    return validate_pb2.IGNORE_ALWAYS in {rules.ignore, rules.repeated.items.ignore}


def is_required_oneof(oneof: OneofDescriptor) -> bool:
    """Whether one member of the group must be there."""
    return oneof.GetOptions().Extensions[validate_pb2.oneof].required


def constrain(schema: Schema, rules: validate_pb2.FieldRules) -> None:
    """Add to the schema of a field, or of a list's item, what its rules say."""
    kind = rules.WhichOneof("type")
    if rules.ignore == validate_pb2.IGNORE_ALWAYS or kind is None:
        return
    own = getattr(rules, kind)
    if kind == "string":
        _constrain_string(schema, own)
    elif kind in _NUMBERS:
        schema.update({word: getattr(own, name) for name, word in _BOUNDS.items() if own.HasField(name)})
    elif kind == "repeated":
        _set(schema, minItems=own.min_items, maxItems=own.max_items)
        if own.unique:
            schema["uniqueItems"] = True
        constrain(schema["items"], own.items)
    elif kind == "map":
        _set(schema, minProperties=own.min_pairs, maxProperties=own.max_pairs)
        if own.keys.HasField("string"):
            names: Schema = {}
            _constrain_string(names, own.keys.string)
            schema["propertyNames"] = names
        constrain(schema["additionalProperties"], own.values)


def _constrain_string(schema: Schema, rules: validate_pb2.StringRules) -> None:
    _set(schema, minLength=rules.len or rules.min_len, maxLength=rules.len or rules.max_len)
    if rules.pattern:
        schema["pattern"] = rules.pattern
    if rules.uuid:
        schema.update({"format": "uuid", "pattern": _UUID})


def _set(schema: Schema, **words: int) -> None:
    schema.update({word: number for word, number in words.items() if number})
