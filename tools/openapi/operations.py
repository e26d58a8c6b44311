"""Bindings as operations of the OpenAPI document."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from clew.options.v1.access_pb2 import AccessKind
from gateway.transcode.binding import WHOLE, Binding, FieldPath
from gateway.transcode.query import query_fields
from gateway.transcode.stream import NDJSON, SSE
from gateway.transcode.template import Variable
from tools.openapi.comments import first_sentence
from tools.openapi.rules import Schema, is_ignored, is_required
from tools.openapi.schemas import Schemas

Operation = dict[str, Any]
WRITE_KEY: Final[list[Schema]] = [{"writeKey": []}, {"writeKeyHeader": []}]
_PROBLEM: Final = "#/components/responses/"


class PathNames:
    """What the variables of paths are called: OpenAPI has one path where bindings differ only in these names.

    Of several names for one variable the first without a dot stands: `{workspace}` for `{source.workspace}`.
    """

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self._names: dict[str, list[str]] = {}
        for binding in bindings:
            own = [variable.field_path for variable in binding.template.variables]
            names = self._names.setdefault(_path(binding, [""] * len(own)), own)
            better = [one if "." in name and "." not in one else name for name, one in zip(names, own, strict=True)]
            names[:] = better

    def of(self, binding: Binding) -> list[str]:
        """The names of a binding's variables, in the order of its template."""
        return self._names[_path(binding, [""] * len(binding.template.variables))]

    def path(self, binding: Binding) -> str:
        """The template as OpenAPI writes it: every variable by its name alone."""
        return _path(binding, self.of(binding))


def _path(binding: Binding, names: list[str]) -> str:
    template = binding.template
    pieces: list[str] = []
    at = 0
    for variable, name in zip(template.variables, names, strict=True):
        pieces += template.segments[at : variable.start]
        pieces.append(f"{{{name}}}")
        at = variable.end or len(template.segments)
    pieces += template.segments[at:]
    return "/" + "/".join(pieces) + (f":{template.verb}" if template.verb else "")


def operation_of(
    binding: Binding, number: int, names: list[str], schemas: Schemas, comments: dict[str, str]
) -> Operation:
    """One binding; `number` tells an rpc's bindings apart, the first is 0. `names`: of its path's variables."""
    method = binding.method
    comment = comments.get(method.full_name, "")
    operation: Operation = {
        "operationId": f"{method.containing_service.name}_{method.name}" + (f"_{number}" if number else ""),
        "tags": [method.containing_service.name],
        "summary": first_sentence(comment),
        "description": comment,
        "security": security_of(binding),
        "x-clew-rpc": binding.rpc,
        "parameters": [*_path_parameters(binding, names, schemas), *_query_parameters(binding, schemas)],
    }
    if binding.body:
        operation["requestBody"] = _body(binding, schemas)
    operation["responses"] = {"200": _answer(binding, schemas), **_problems(binding, comment)}
    return operation


def security_of(binding: Binding) -> list[Schema]:
    """What the caller shows; an empty list for nothing."""
    match binding.access.kind:
        case AccessKind.ACCESS_KIND_PUBLIC:
            return []
        case AccessKind.ACCESS_KIND_SCOPE:
            return [{"bearer": [scope]} for scope in (binding.access.scope, *binding.access.other_scopes)]
        case AccessKind.ACCESS_KIND_WRITE_KEY:
            return WRITE_KEY
        case _:
            raise ValueError(f"{binding.rpc}: nothing is known about who may call it")


def messages_of_requests(bindings: list[Binding], *, checked: bool) -> set[str]:
    """Full names of all messages that requests are made of; with `checked` only those whose rules are looked at."""
    found: set[str] = set()

    def walk(message: Descriptor) -> None:
        if message.full_name not in found:
            found.add(message.full_name)
            for field in message.fields:
                if field.message_type is not None and not (checked and is_ignored(field)):
                    walk(field.message_type)

    for binding in bindings:
        walk(binding.method.input_type)
    return found


def _path_parameters(binding: Binding, names: list[str], schemas: Schemas) -> Iterator[Schema]:
    for variable, name in zip(binding.template.variables, names, strict=True):
        field = binding.path_fields[variable.field_path][-1]
        schema = schemas.value(field, request=True)
        if not variable.single:
            schema["pattern"] = _pattern(binding, variable)
        elif schema.get("type") == "string":
            # An empty segment matches no variable.
            schema.setdefault("minLength", 1)
        parameter = {"name": name, "in": "path", "required": True, "schema": schema}
        yield _described(parameter, schemas, binding.path_fields[variable.field_path])


def _pattern(binding: Binding, variable: Variable) -> str:
    segments = binding.template.segments[variable.start : variable.end or None]
    return "^" + "/".join({"*": "[^/]+", "**": ".*"}.get(segment, segment) for segment in segments) + "$"


def _query_parameters(binding: Binding, schemas: Schemas) -> Iterator[Schema]:
    for path in query_fields(binding.method.input_type, frozenset(binding.path_fields), binding.body):
        name = ".".join(field.json_name for field in path)
        schema = schemas.value(path[-1], request=True)
        parameter: Schema = {"name": name, "in": "query", "schema": schema}
        if all(is_required(field) for field in path):
            parameter["required"] = True
        yield _described(parameter, schemas, path)


def _described(parameter: Schema, schemas: Schemas, path: FieldPath) -> Schema:
    comment = schemas.comment(path[-1])
    return {**parameter, "description": comment} if comment else parameter


def _body(binding: Binding, schemas: Schemas) -> Schema:
    message = binding.method.input_type
    if binding.body == WHOLE:
        inner: Descriptor | None = message
        bound = _bound_in(binding, "")
        schema = schemas.message(message, bound) if binding.path_fields else schemas.reference(message)
    else:
        field = message.fields_by_name[binding.body]
        inner = None if field.is_repeated else field.message_type
        bound = _bound_in(binding, f"{binding.body}.")
        schema = schemas.message(inner, bound) if inner and bound else schemas.value(field, request=True)
    required = inner is None or schemas.needs(inner, bound)
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _bound_in(binding: Binding, prefix: str) -> frozenset[str]:
    """The fields directly below a prefix that the path binds; one deeper inside of the body is refused all the same."""
    found = (name.removeprefix(prefix) for name in binding.path_fields if name.startswith(prefix))
    return frozenset(name for name in found if "." not in name)


def _answer(binding: Binding, schemas: Schemas) -> Schema:
    message = binding.method.output_type
    if binding.response_body:
        schema = schemas.value(message.fields_by_name[binding.response_body], request=False)
    else:
        schema = schemas.reference(message)
    if not binding.method.server_streaming:
        return {"description": "What the rpc answers.", "content": {"application/json": {"schema": schema}}}
    text = "One message a line, or server-sent events where the Accept header names them. A failure is the last line"
    lines: Schema = {"schema": {"type": "string"}, "x-clew-item": schema}
    return {"description": f"{text}, in a member `error`, or an event `error`.", "content": {NDJSON: lines, SSE: lines}}


def _problems(binding: Binding, comment: str) -> dict[str, Schema]:
    statuses = ["400"]
    if binding.access.kind != AccessKind.ACCESS_KIND_PUBLIC or "UNAUTHENTICATED" in comment:
        statuses.append("401")
    if binding.access.kind == AccessKind.ACCESS_KIND_SCOPE or "PERMISSION_DENIED" in comment:
        statuses.append("403")
    if "NOT_FOUND" in comment:
        statuses.append("404")
    if "ALREADY_EXISTS" in comment or "FAILED_PRECONDITION" in comment:
        statuses.append("409")
    return {status: {"$ref": _PROBLEM + "Problem"} for status in (*statuses, "503", "default")}
