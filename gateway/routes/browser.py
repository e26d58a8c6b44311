"""What a browser SDK asks for before it sends anything: the settings of its source."""

from collections.abc import Callable

from gateway.http.errors import RouteNotFound
from gateway.http.message import Request, Response, json_response
from gateway.http.router import Router

_PREFIX = "/v1/projects/"
_SUFFIX = "/settings"
# A page load in this time costs no request. Not shared: the answer names the host that was asked.
_CACHE = (("cache-control", "private, max-age=60"),)


def add_browser_routes(router: Router, known: Callable[[str, str], bool], public_url: str = "") -> None:
    """Add `GET /v1/projects/{write key}/settings`.

    Args:
        router: Where it is added.
        known: Whether a write key belongs to a source; raises when that takes no events from pages of the origin,
            the second argument, which is empty where no browser says one.
        public_url: Where browsers reach this gateway, such as `https://events.example`; when empty, the host and the
            scheme (from X-Forwarded-Proto) under which each request came.
    """

    async def settings(request: Request) -> Response:
        write_key, _, rest = request.path.removeprefix(_PREFIX).partition("/")
        if "/" + rest != _SUFFIX or not known(write_key, request.headers.get("origin") or ""):
            raise RouteNotFound("no source has settings here")
        protocol, host = _split(public_url) if public_url else _asked_for(request)
        return json_response(200, source_settings(write_key, protocol, f"{host}/v1"), headers=_CACHE)

    router.mount("GET", _PREFIX, settings)


def source_settings(write_key: str, protocol: str, api_host: str) -> dict[str, object]:
    """The settings that analytics-next 1.84 reads, for a source whose events all go to one host.

    No destination runs in the browser: consent is decided where the events arrive.

    Args:
        write_key: The source's key.
        protocol: `http` or `https`.
        api_host: Host, port and path prefix that the SDK puts before its one-letter paths.
    """
    allowed = {"__default": {"enabled": True, "integrations": {}}}
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": api_host,
                "protocol": protocol,
                "retryQueue": True,
                "addBundledMetadata": True,
                "unbundledIntegrations": [],
                "maybeBundledConfigIds": {},
                "versionSettings": {"componentTypes": ["browser"]},
            }
        },
        "plan": {
            "track": allowed,
            "identify": {"__default": {"enabled": True}},
            "group": {"__default": {"enabled": True}},
        },
        "analyticsNextEnabled": True,
        "middlewareSettings": {"routingRules": []},
        "enabledMiddleware": {},
        "remotePlugins": [],
        "edgeFunction": {},
        "legacyVideoPluginsEnabled": False,
        # Left out, or above 0, the SDK sends its own metrics to Segment's host.
        "metrics": {"sampleRate": 0, "host": api_host, "protocol": protocol},
    }


def _split(public_url: str) -> tuple[str, str]:
    protocol, _, host = public_url.rstrip("/").partition("://")
    return protocol, host


def _asked_for(request: Request) -> tuple[str, str]:
    # Of several proxies the first has written the browser's own, and some append to it.
    protocol = (request.headers.get("x-forwarded-proto") or "").partition(",")[0].strip().lower()
    return ("https" if protocol == "https" else "http"), request.headers.get("host") or "localhost"
