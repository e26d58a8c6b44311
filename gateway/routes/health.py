"""Probes: whether the process runs, and whether it can take events."""

from collections.abc import Callable

from gateway.http.message import Request, Response, json_response
from gateway.http.router import Router

_UNAVAILABLE = 503
_NO_STORE = (("cache-control", "no-store"),)


def add_health_routes(router: Router, not_ready: Callable[[], list[str]]) -> None:
    """Add `GET /healthz` and `GET /readyz`.

    Args:
        router: Where they are added.
        not_ready: What keeps events from being taken, each in a few words; empty when nothing does.
    """

    async def healthz(_: Request) -> Response:
        return json_response(200, {"status": "ok"}, headers=_NO_STORE)

    async def readyz(_: Request) -> Response:
        missing = not_ready()
        if missing:
            headers = (*_NO_STORE, ("retry-after", "1"))
            return json_response(_UNAVAILABLE, {"status": "not ready", "missing": missing}, headers=headers)
        return json_response(200, {"status": "ready"}, headers=_NO_STORE)

    router.add("GET", "/healthz", healthz)
    router.add("GET", "/readyz", readyz)
