"""Probes: whether the process runs, and whether it can take events."""

from collections.abc import Callable

from gateway.http.message import Request, Response, json_response
from gateway.http.router import Router

_UNAVAILABLE = 503
_NO_STORE = (("cache-control", "no-store"),)


def add_health_routes(
    router: Router, not_ready: Callable[[], list[str]], spool: Callable[[], dict[str, object]] | None = None
) -> None:
    """Add `GET /healthz` and `GET /readyz`.

    Args:
        router: Where they are added.
        not_ready: What keeps events from being published, each in a few words; empty when nothing does.
        spool: How the spool stands; None: there is none. While it is not full events are taken in any case.
    """

    async def healthz(_: Request) -> Response:
        return json_response(200, {"status": "ok"}, headers=_NO_STORE)

    async def readyz(_: Request) -> Response:
        missing = not_ready()
        more: dict[str, object] = {"missing": missing} if missing else {}
        kept = None
        if spool is not None:
            kept = more["spool"] = spool()
        if missing and (kept is None or kept["full"]):
            headers = (*_NO_STORE, ("retry-after", "1"))
            return json_response(_UNAVAILABLE, {"status": "not ready", **more}, headers=headers)
        return json_response(200, {"status": "ready", **more}, headers=_NO_STORE)

    router.add("GET", "/healthz", healthz)
    router.add("GET", "/readyz", readyz)
