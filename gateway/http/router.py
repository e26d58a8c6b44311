"""From a method and a path to a handler."""

from collections.abc import Callable

from gateway.http.errors import MethodNotAllowed, RouteNotFound
from gateway.http.message import DirectHandler, Handler, Request, Response

_Methods = dict[str, Handler]

FindTemplate = Callable[[str, str], Handler | None]
"""The handler for a method and a path as it was sent, or None; raises `MethodNotAllowed` as `Router.find`."""


def _no_template(_method: str, _path: str) -> Handler | None:
    return None


class Router:
    """Exact routes first, then the longest prefix that fits, then templates. HEAD is served by what serves GET."""

    def __init__(self) -> None:
        self._exact: dict[str, _Methods] = {}
        self._prefixes: dict[str, _Methods] = {}
        self._find_template: FindTemplate = _no_template

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve `method path`.

        Raises:
            ValueError: The route exists.
        """
        _put(self._exact.setdefault(path, {}), method, path, handler)

    def mount(self, method: str, prefix: str, handler: Handler) -> None:
        """Serve `method` for `prefix`, which ends with a slash, and everything below it.

        Raises:
            ValueError: The route exists, or the prefix does not end with a slash.
        """
        if not prefix.endswith("/"):
            raise ValueError(f"the prefix {prefix} does not end with a slash")
        _put(self._prefixes.setdefault(prefix, {}), method, prefix, handler)
        self._prefixes = dict(sorted(self._prefixes.items(), key=lambda item: -len(item[0])))

    def serve_templates(self, find: FindTemplate) -> None:
        """Ask `find` about every path that no exact route and no prefix has."""
        self._find_template = find

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path of every exact route and prefix."""
        tables = (*self._exact.items(), *self._prefixes.items())
        return sorted((method, path) for path, methods in tables for method in methods)

    async def handle(self, request: Request) -> Response:
        """Answer with the route's handler.

        Raises:
            RouteNotFound: No route has the path.
            MethodNotAllowed: The path's routes do not take the method.
        """
        return await self.find(request.method, request.path, request.raw_path)(request)

    def find(self, method: str, path: str, raw_path: str = "") -> Handler:
        """The handler of a route; `raw_path` is the path as it was sent, for templates.

        Raises:
            RouteNotFound: No route has the path.
            MethodNotAllowed: The path's routes do not take the method.
        """
        methods = self._exact.get(path) or self._below_prefix(path)
        if methods is None:
            found = self._find_template(method, raw_path or path)
            if found is not None:
                return found
            raise RouteNotFound(f"nothing is served at this path: {_shown(path)}", path=_shown(path))
        handler = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if handler is None:
            allow = _allow(methods)
            raise MethodNotAllowed(f"this path takes {allow}", allow=allow)
        return handler

    def find_direct(self, request: Request) -> DirectHandler | None:
        """The handler of an exact route, if it is one that needs no task."""
        methods = self._exact.get(request.path)
        handler = methods.get(request.method) if methods else None
        return handler if isinstance(handler, DirectHandler) else None

    def _below_prefix(self, path: str) -> _Methods | None:
        for prefix, methods in self._prefixes.items():
            if path.startswith(prefix):
                return methods
        return None


def _put(methods: _Methods, method: str, path: str, handler: Handler) -> None:
    if method in methods:
        raise ValueError(f"{method} {path} has a handler")
    methods[method] = handler


def _allow(methods: _Methods) -> str:
    head = {"HEAD"} if "GET" in methods else set()
    return ", ".join(sorted({*methods, *head, "OPTIONS"}))


def _shown(path: str) -> str:
    """The path as it may stand in a header or a log line: short, and ASCII."""
    return path[:256].encode("ascii", "backslashreplace").decode("ascii")
