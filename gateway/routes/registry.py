"""The read-only schema registry, where stock clients look for it: `http://host:port/registry`."""

from typing import Protocol

from gateway.http.message import Request, Response, json_response
from gateway.http.router import Router

_PREFIX = "/registry/"
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Registry(Protocol):
    """Answers the GET requests of the Confluent Schema Registry API."""

    def handle(self, path: str, query: str) -> tuple[int, object]:
        """The status and the JSON value for a path such as `/schemas/ids/1` and a query string."""
        ...


def add_registry_routes(router: Router, registry: Registry) -> None:
    """Serve a registry under `/registry/`."""

    async def handle(request: Request) -> Response:
        status, value = registry.handle("/" + request.path.removeprefix(_PREFIX), request.query)
        return json_response(status, value, content_type=_CONTENT_TYPE)

    router.mount("GET", _PREFIX, handle)
