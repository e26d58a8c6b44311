"""A small HTTP server around a registry, for stock clients; it remembers what they asked for."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mesh.registry import CONTENT_TYPE, SchemaRegistry


class RegistryServer(ThreadingHTTPServer):
    """Serves a registry below `/registry`, as the gateway does."""

    def __init__(self, registry: SchemaRegistry) -> None:
        super().__init__(("127.0.0.1", 0), RegistryHandler)
        self.registry = registry
        self.requests: list[str] = []
        self.authorizations: set[str | None] = set()

    @property
    def url(self) -> str:
        """What clients are configured with."""
        return f"http://127.0.0.1:{self.server_address[1]}/registry"


class RegistryHandler(BaseHTTPRequestHandler):
    """Passes each request to the registry."""

    protocol_version = "HTTP/1.1"
    server: RegistryServer

    def do_GET(self) -> None:
        """Answer."""
        self.respond()

    def do_POST(self) -> None:
        """Answer."""
        self.respond()

    def do_PUT(self) -> None:
        """Answer."""
        self.respond()

    def do_DELETE(self) -> None:
        """Answer."""
        self.respond()

    def respond(self) -> None:
        """Answer from the registry."""
        target = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {self.path.removeprefix('/registry')}")
        self.server.authorizations.add(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = target.path.removeprefix("/registry")
        status, answer = self.server.registry.answer(self.command, path, dict(parse_qsl(target.query)), body)
        sent = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


@contextmanager
def serving(registry: SchemaRegistry) -> Iterator[RegistryServer]:
    """Serve a registry on a free port."""
    with RegistryServer(registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
