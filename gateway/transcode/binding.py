"""The HTTP bindings of an rpc, resolved against its messages: a contract that breaks the rules is refused at start."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from clew.options.v1 import access_pb2
from clew.options.v1.access_pb2 import Access, AccessKind
from gateway.transcode.template import Template, parse_template

WHOLE: Final = "*"
"""The `body` that stands for every field that the path does not bind."""

_METHODS: Final = ("get", "put", "post", "delete", "patch")
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE"})

FieldPath = tuple[FieldDescriptor, ...]


class BindingError(ValueError):
    """Raised when a contract's binding breaks the rules of google/api/http.proto, or says nothing about access."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to call one rpc over HTTP."""

    method: MethodDescriptor
    http_method: str
    """Upper case; `*` for any."""
    template: Template
    path_fields: dict[str, FieldPath]
    """The fields that the template's variables go to, by the path in the template."""
    body: str
    """The field that the body is, `*` for the whole message, empty for none."""
    response_body: str
    """The field of the response that is the answer's body; empty for the whole response."""
    access: Access

    @property
    def rpc(self) -> str:
        """The rpc as gRPC names it: `/package.Service/Method`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def bindings_of(service: ServiceDescriptor) -> Iterator[Binding]:
    """All bindings of a service's rpcs that have one; an rpc without `google.api.http` is not for HTTP.

    Raises:
        BindingError: One breaks the rules, or its rpc does not declare who may call it.
    """
    for method in service.methods:
        options = method.GetOptions()
        if options.HasExtension(annotations_pb2.http):
            rule = options.Extensions[annotations_pb2.http]
            access = options.Extensions[access_pb2.access]
            _check_access(method, access)
            for own in (rule, *rule.additional_bindings):
                yield _binding(method, own, access)
            if any(inner.additional_bindings for inner in rule.additional_bindings):
                raise BindingError(f"{method.full_name}: bindings are nested deeper than one level")


def field_path(message: Descriptor, path: str) -> FieldPath | None:
    """The fields along a dotted path of proto or JSON names, or None when one does not exist."""
    fields: list[FieldDescriptor] = []
    inner: Descriptor | None = message
    for name in path.split("."):
        found = None if inner is None else find_field(inner, name)
        if found is None or (fields and fields[-1].is_repeated):
            return None
        fields.append(found)
        inner = found.message_type
    return tuple(fields)


def find_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    """The field of that proto name or JSON name."""
    found = message.fields_by_name.get(name)
    return message.fields_by_camelcase_name.get(name) or _by_json_name(message, name) if found is None else found


def dotted(path: FieldPath) -> str:
    """A field path as text, in proto names."""
    return ".".join(field.name for field in path)


def _by_json_name(message: Descriptor, name: str) -> FieldDescriptor | None:
    return next((field for field in message.fields if field.json_name == name), None)


def _check_access(method: MethodDescriptor, access: Access) -> None:
    if access.kind == AccessKind.ACCESS_KIND_UNSPECIFIED:
        raise BindingError(
            f"{method.full_name}: is bound to HTTP without (clew.options.v1.access): say who may call it"
        )
    if bool(access.scope) != (access.kind == AccessKind.ACCESS_KIND_SCOPE):
        raise BindingError(f"{method.full_name}: a scope goes with ACCESS_KIND_SCOPE, and only with it")
    if access.other_scopes and not access.scope:
        raise BindingError(f"{method.full_name}: other scopes stand beside a scope")


def _binding(method: MethodDescriptor, rule: HttpRule, access: Access) -> Binding:
    if method.client_streaming:
        raise BindingError(f"{method.full_name}: a stream of requests cannot be bound to HTTP/1.1")
    http_method, text = _pattern(method, rule)
    template = parse_template(text)
    _check_bodies(method, rule, http_method)
    return Binding(
        method=method,
        http_method=http_method,
        template=template,
        path_fields={variable.field_path: _path_field(method, variable.field_path) for variable in template.variables},
        body=rule.body,
        response_body=rule.response_body,
        access=access,
    )


def _pattern(method: MethodDescriptor, rule: HttpRule) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        return rule.custom.kind.upper(), rule.custom.path
    if kind not in _METHODS:
        raise BindingError(f"{method.full_name}: a binding has no pattern")
    return kind.upper(), getattr(rule, kind)


def _path_field(method: MethodDescriptor, path: str) -> FieldPath:
    fields = field_path(method.input_type, path)
    if fields is None:
        raise BindingError(f"{method.full_name}: {path} is no field of {method.input_type.full_name}")
    if fields[-1].is_repeated or fields[-1].message_type is not None:
        raise BindingError(f"{method.full_name}: {path} stands in the path, so it must be one plain value")
    return fields


def _check_bodies(method: MethodDescriptor, rule: HttpRule, http_method: str) -> None:
    if rule.body and http_method in _BODILESS:
        raise BindingError(f"{method.full_name}: {http_method} has no body")
    if rule.body not in {"", WHOLE} and rule.body not in method.input_type.fields_by_name:
        raise BindingError(f"{method.full_name}: the body {rule.body} is no field of {method.input_type.full_name}")
    if rule.response_body and rule.response_body not in method.output_type.fields_by_name:
        raise BindingError(f"{method.full_name}: {rule.response_body} is no field of {method.output_type.full_name}")
