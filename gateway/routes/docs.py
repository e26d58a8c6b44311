"""What people and generators read: OpenAPI of the HTTP interface, a page to try it on, and AsyncAPI of the topics."""

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from gateway.http.message import JSON, Handler, Pair, Request, Response
from gateway.http.router import Router

_HTML: Final = "text/html; charset=utf-8"
_PAGES: Final = {
    "/": ("root.html", _HTML),
    "/docs": ("index.html", _HTML),
    "/docs/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs/page.css": ("page.css", "text/css; charset=utf-8"),
}
# The page holds tokens while somebody uses it: it runs its own script, talks to its own origin, and stands in no frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FIELDS: Final[tuple[Pair, ...]] = (
    ("content-security-policy", _POLICY),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
)


def openapi_document() -> bytes:
    """The OpenAPI document, as it was compiled from the contracts."""
    return (resources.files("clew") / "openapi.json").read_bytes()


def asyncapi_document() -> bytes:
    """The AsyncAPI document, as it was compiled from the declaration of the topics."""
    return (resources.files("clew") / "asyncapi.json").read_bytes()


def add_docs_routes(router: Router) -> None:
    """Add `GET /openapi.json`, `GET /asyncapi.json`, the page at `/docs`, and the one at `/` that leads there."""
    for path, document in (("/openapi.json", openapi_document()), ("/asyncapi.json", asyncapi_document())):
        router.add("GET", path, _fixed(document, JSON, (("cache-control", "no-cache"),)))
    for path, (name, kind) in _PAGES.items():
        router.add("GET", path, _fixed(_page(name).read_bytes(), kind, _FIELDS))


def _page(name: str) -> Traversable:
    return resources.files("gateway") / "pages" / name


def _fixed(body: bytes, kind: str, fields: tuple[Pair, ...]) -> Handler:
    response = Response(200, body, kind, fields)

    async def handle(_: Request) -> Response:
        return response

    return handle
