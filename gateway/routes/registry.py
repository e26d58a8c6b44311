"""The read-only schema registry, where stock clients look for it: `http://host:port/registry`."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from urllib.parse import parse_qsl

from gateway.http.message import Request, Response, json_response
from gateway.http.router import Router
from mesh.registry import CONTENT_TYPE, SchemaRegistry
from mesh.registry.table import INVALID_SCHEMA

_PREFIX = "/registry/"
# Twice the largest schema of ours as text; of a larger one it need not be found out at length that it is none.
_MOST_BYTES = 512 * 1024
# Above so many bytes a comparison takes milliseconds: in a thread the loop gets its turns in between. One thread, that
# goes on when its client has gone: clients that come and go would else have many of them run beside the loop.
_LARGE_BYTES = 32 * 1024
_METHODS = ("GET", "POST", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Schemas:
    """What records are published with: the id of each message's schema, and the registry that gave it.

    Args:
        ids: By the full name of the message.
        registry_url: Where another registry gave them; empty: ours.
    """

    ids: Mapping[str, int]
    registry_url: str = ""


def contracts_registry() -> SchemaRegistry:
    """The registry that was compiled from the contracts and ships with the generated code."""
    return SchemaRegistry.load(resources.files("clew") / "registry.json")


def add_registry_routes(router: Router, registry: SchemaRegistry) -> None:
    """Serve a registry under `/registry/`. It refuses writes itself, in its clients' words."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="registry")

    async def handle(request: Request) -> Response:
        path = "/" + request.path.removeprefix(_PREFIX)
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        asked = (request.method, path, query, request.body)
        if len(request.body) > _MOST_BYTES:
            error = {"error_code": INVALID_SCHEMA, "message": f"A schema of clew's has less than {_MOST_BYTES} bytes"}
            return json_response(413, error, content_type=CONTENT_TYPE)
        if len(request.body) > _LARGE_BYTES:
            status, value = await asyncio.get_running_loop().run_in_executor(pool, registry.answer, *asked)
        else:
            status, value = registry.answer(*asked)
        if isinstance(value, str):
            return Response(status, value.encode(), CONTENT_TYPE)
        return json_response(status, value, content_type=CONTENT_TYPE)

    for method in _METHODS:
        router.mount(method, _PREFIX, handle)


def add_elsewhere_routes(router: Router, url: str) -> None:
    """Send who asks below `/registry/` elsewhere: our own ids are not those of the records, and would be misread."""
    answer = {"error_code": 404, "message": f"The schemas of these topics are registered at {url}; ask there"}

    async def handle(_: Request) -> Response:
        return json_response(404, answer, content_type=CONTENT_TYPE)

    for method in _METHODS:
        router.mount(method, _PREFIX, handle)
