"""The whole document."""

import tomllib
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from gateway.routes.rpcs import OWN_SERVICES, UPSTREAM_SERVICES
from gateway.transcode.binding import Binding, bindings_of
from tools.openapi.collection import static_paths, static_schemas
from tools.openapi.comments import ROOT, read_comments
from tools.openapi.operations import PathNames, messages_of_requests, operation_of
from tools.openapi.rules import Schema
from tools.openapi.schemas import Schemas

SERVICES: tuple[ServiceDescriptor, ...] = (*OWN_SERVICES, *UPSTREAM_SERVICES)

_DESCRIPTION = """\
Events in as the Segment HTTP API takes them, and every typed rpc of clew as JSON.

Requests are read strictly: an unknown field, a field in two places and a value of another type are refused by name.
Fields may be written in lowerCamelCase or as the contract spells them; answers are in lowerCamelCase, with 64-bit
integers as text. Every refusal is an RFC 9457 problem with `code`, `message` and `trace_id`."""

_PROBLEM: Schema = {
    "type": "object",
    "description": "A refusal (RFC 9457). Further members are facts about it, for programs.",
    "required": ["type", "title", "status", "detail", "code", "message", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do."},
        "code": {
            "type": "string",
            "description": "A value of `clew.errors.v1.ErrorReason`, without its prefix.",
        },
        "message": {"type": "string", "description": "The detail once more, under the name that SDKs look for."},
        "trace_id": {
            "type": "string",
            "description": "Leads to the request's spans and log lines.",
            "pattern": "^[0-9a-f]{32}$",
        },
        "field": {"type": "string", "description": "The field of the request that is wrong, where it is one."},
    },
}
_SECURITY: dict[str, Schema] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token from `POST /v1/tokens` or a trusted issuer. `clew.admin` stands for every scope.",
    },
    "writeKey": {
        "type": "http",
        "scheme": "basic",
        "description": "A write key as the user name; no password.",
    },
    "writeKeyHeader": {"type": "apiKey", "in": "header", "name": "X-Write-Key", "description": "A source's write key."},
}


def all_bindings() -> list[Binding]:
    """The bindings of every service that the gateway serves over HTTP."""
    return [binding for service in SERVICES for binding in bindings_of(service)]


def document(sources: dict[str, FileDescriptorProto]) -> dict[str, Any]:
    """The OpenAPI 3.1 document for the contracts as generated in gen/, with the comments of their sources."""
    comments = read_comments(sources)
    bindings = all_bindings()
    requests, checked = (messages_of_requests(bindings, checked=each) for each in (False, True))
    schemas = Schemas(comments, requests, checked)
    names, paths = PathNames(bindings), static_paths()
    numbers: dict[str, int] = {}
    for binding in bindings:
        number = numbers[binding.rpc] = numbers.get(binding.rpc, -1) + 1
        operation = operation_of(binding, number, names.of(binding), schemas, comments)
        paths.setdefault(names.path(binding), {})[binding.http_method.lower()] = operation
    problem = {
        "description": "A refusal; nothing was done, unless it says so.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "clew", "version": _version(), "description": _DESCRIPTION, "license": _LICENCE},
        "tags": _tags(comments),
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**schemas.components(), **static_schemas(), "Problem": _PROBLEM}.items())),
            "responses": {"Problem": problem},
            "securitySchemes": _SECURITY,
        },
    }


_LICENCE: Schema = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def _tags(comments: dict[str, str]) -> list[Schema]:
    own: list[Schema] = [
        {"name": service.name, "description": comments.get(service.full_name, "")} for service in SERVICES
    ]
    return [
        {"name": "Segment", "description": "Events from unmodified SDKs."},
        *own,
        {"name": "Operation", "description": "For operators."},
    ]
