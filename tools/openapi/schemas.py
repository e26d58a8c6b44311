"""Messages as JSON Schema (2020-12), in the form that the transcoder reads and writes."""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.transcode.fields import is_map
from gateway.transcode.scalars import INTEGER_TEXT, NUMBER_TEXT, RANGES
from gateway.transcode.wellknown import FREE, TEXTS, WRAPPERS, is_well_known
from tools.openapi.rules import Schema, constrain, is_required, is_required_oneof, rules_of

_F = FieldDescriptor
_LONG: Final = (_F.CPPTYPE_INT64, _F.CPPTYPE_UINT64)
_SET_BY_SERVER: Final = "Set by the server"
_REF: Final = "#/components/schemas/"


class Schemas:
    """The schemas of all messages and enums that somebody refers to.

    Args:
        comments: The contracts' comments by full name.
        requests: Full names of the messages that requests are made of. They are closed: an unknown field is refused.
            All others are open, for a later version may say more.
        checked: Those of them whose rules are checked before the rpc is called; what others break is no refusal.
    """

    def __init__(self, comments: dict[str, str], requests: set[str], checked: set[str]) -> None:
        self._comments = comments
        self._requests = requests
        self._unchecked = requests - checked
        self._found: dict[str, tuple[str, Schema]] = {}

    def components(self) -> dict[str, Schema]:
        """Every schema that was referred to, by its name in the document."""
        return {name: schema for name, (_, schema) in sorted(self._found.items())}

    def reference(self, message: Descriptor) -> Schema:
        """A reference to a message's schema, which is made with the first."""
        return self._refer(message, lambda schema: schema.update(self.message(message)))

    def message(self, message: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """A message's schema in full, less some of its fields: those that a path binds."""
        request = message.full_name in self._requests
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        comment = self._comments.get(message.full_name)
        if comment:
            schema["description"] = comment
        if fields:
            schema["properties"] = {field.json_name: self.field(field, request=request) for field in fields}
        needed = [field.json_name for field in fields if (self._needs(field) if request else not field.has_presence)]
        if needed:
            schema["required"] = needed
        if request:
            schema["additionalProperties"] = False
        groups = self._groups(message, without)
        if groups:
            schema["allOf"] = groups
        return schema

    def needs(self, message: Descriptor, without: frozenset[str]) -> bool:
        """Whether a request with such a body, less some of its fields, must have one; an absent body is empty."""
        named = any(self._needs(field) for field in message.fields if field.name not in without)
        return named or any(is_required_oneof(oneof) for oneof in message.oneofs)

    def field(self, field: FieldDescriptor, *, request: bool) -> Schema:
        """A field's schema: its type, its rules, its comment; null where a request may say that it leaves it out."""
        schema = self.value(field, request=request)
        if request and not self._needs(field):
            schema = _or_null(schema)
        comment = self._comments.get(field.full_name)
        if comment and _SET_BY_SERVER in comment:
            # Not `readOnly`: what was read may be sent back, and is then not looked at.
            schema = {**schema, "x-clew-set-by-server": True}
        return {**schema, "description": comment} if comment else schema

    def comment(self, field: FieldDescriptor) -> str:
        """What the contract says about a field."""
        return self._comments.get(field.full_name, "")

    def value(self, field: FieldDescriptor, *, request: bool) -> Schema:
        """The schema of a field's value: a list and a map with all their items."""
        if is_map(field):
            inner = _inner(field).fields_by_name["value"]
            schema: Schema = {"type": "object", "additionalProperties": self._item(inner, request=request)}
        elif field.is_repeated:
            schema = {"type": "array", "items": self._item(field, request=request)}
        else:
            schema = self._item(field, request=request)
        if self._is_checked(field):
            constrain(schema, rules_of(field))
        return schema

    def _is_checked(self, field: FieldDescriptor) -> bool:
        return field.full_name.rpartition(".")[0] not in self._unchecked

    def _needs(self, field: FieldDescriptor) -> bool:
        return is_required(field) and self._is_checked(field)

    def _item(self, field: FieldDescriptor, *, request: bool) -> Schema:
        if field.message_type is not None:
            inner = _inner(field)
            return _well_known(inner) if is_well_known(inner) else self.reference(inner)
        if field.enum_type is not None:
            reference = self._enum(field.enum_type)
            # An answer may hold the number of a value that this version does not know; a request may use numbers too.
            return {"anyOf": [reference, {"type": "integer", "format": "int32"}]} if request else reference
        return scalar_schema(field)

    def _enum(self, enum: EnumDescriptor) -> Schema:
        def fill(schema: Schema) -> None:
            names = [value.name for value in enum.values]
            told = [f"- `{name}`: {self._comments.get(f'{enum.full_name}.{name}', '')}" for name in names]
            text = "\n".join([self._comments.get(enum.full_name, ""), "", *told])
            schema.update({"type": "string", "enum": names, "description": text})

        return self._refer(enum, fill)

    def _refer(self, described: Any, fill: Any) -> Schema:
        """A reference; the schema stands under its name before it is made, so that a message may hold itself."""
        name = described.full_name.removeprefix(f"{described.file.package}.")
        known = self._found.get(name)
        if known is None:
            schema: Schema = {}
            self._found[name] = (described.full_name, schema)
            fill(schema)
        elif known[0] != described.full_name:
            raise ValueError(f"{known[0]} and {described.full_name} would share the name {name}: rename the newer one")
        return {"$ref": _REF + name}

    @staticmethod
    def _groups(message: Descriptor, without: frozenset[str]) -> list[Schema]:
        """What the groups of alternatives ask for, one schema each."""
        found: list[Schema] = []
        for oneof in message.oneofs:
            names = [field.json_name for field in oneof.fields if field.name not in without]
            if len(names) < len(oneof.fields) or len(names) == 1:
                continue
            each = [_given(name) for name in names]
            if not is_required_oneof(oneof):
                each.append({"not": {"anyOf": [_given(name) for name in names]}})
            found.append({"oneOf": each})
        return found


def _given(name: str) -> Schema:
    """That a member is there; null leaves it out."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def scalar_schema(field: FieldDescriptor) -> Schema:
    """The schema of a plain value that is no enum."""
    kind = field.cpp_type
    if kind in _LONG:
        return {"type": ["string", "integer"], "pattern": INTEGER_TEXT, "format": _format(field)}
    if kind in RANGES:
        least, most = RANGES[kind]
        word = {"minimum": least, "maximum": most, "format": _format(field)}
        return {"type": ["integer", "string"], "pattern": INTEGER_TEXT, **word}
    match kind:
        case _F.CPPTYPE_BOOL:
            return {"type": "boolean"}
        case _F.CPPTYPE_DOUBLE | _F.CPPTYPE_FLOAT:
            return {"type": ["number", "string"], "pattern": NUMBER_TEXT}
        case _ if field.type == _F.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        case _:
            return {"type": "string"}


def _format(field: FieldDescriptor) -> str:
    return {
        _F.CPPTYPE_INT32: "int32",
        _F.CPPTYPE_INT64: "int64",
        _F.CPPTYPE_UINT32: "uint32",
        _F.CPPTYPE_UINT64: "uint64",
    }[field.cpp_type]


def _well_known(message: Descriptor) -> Schema:
    name = message.full_name
    if name.endswith(".Timestamp"):
        return {"type": "string", "format": "date-time"}
    if name in TEXTS:
        return {"type": "string", "pattern": TEXTS[name][0], "examples": [TEXTS[name][1].rpartition(" ")[2]]}
    if name in WRAPPERS:
        return _or_null(scalar_schema(message.fields_by_name["value"]))
    if name in FREE and name.rpartition(".")[2] in {"Struct", "Any", "Empty"}:
        return {"type": "object"}
    return {"type": "array"} if name.endswith(".ListValue") else {}


def _or_null(schema: Schema) -> Schema:
    kinds = schema.get("type")
    if kinds is None:
        return {"anyOf": [*(schema.get("anyOf") or [schema]), {"type": "null"}]} if schema else schema
    return {**schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}


def _inner(field: FieldDescriptor) -> Descriptor:
    if field.message_type is None:
        raise TypeError(f"{field.full_name} is no message")
    return field.message_type
