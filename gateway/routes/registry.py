"""The read-only schema registry, where stock clients look for it: `http://host:port/registry`."""

from importlib import resources
from urllib.parse import parse_qsl

from gateway.http.message import JSON, Request, Response, json_response
from gateway.http.router import Router
from mesh.registry import SchemaRegistry

_PREFIX = "/registry/"
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_METHODS = ("GET", "POST", "PUT", "DELETE")


def contracts_registry() -> SchemaRegistry:
    """The registry that was compiled from the contracts and ships with the generated code."""
    return SchemaRegistry.load(resources.files("clew") / "registry.json")


def add_registry_routes(router: Router, registry: SchemaRegistry) -> None:
    """Serve a registry under `/registry/`. It refuses writes itself, in its clients' words."""

    async def handle(request: Request) -> Response:
        path = "/" + request.path.removeprefix(_PREFIX)
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        status, value = registry.answer(request.method, path, query, request.body)
        if isinstance(value, str):
            return Response(status, value.encode(), JSON)
        return json_response(status, value, content_type=_CONTENT_TYPE)

    for method in _METHODS:
        router.mount(method, _PREFIX, handle)
