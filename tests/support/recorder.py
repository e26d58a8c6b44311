"""A collector that keeps what it is sent: stands for the gateway where the client libraries themselves are examined.

It answers as the gateway must: 200 with a body for events, the settings that analytics-next asks for, and CORS.
"""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: Message
    body: bytes

    def envelope(self) -> dict[str, Any]:
        """Return the JSON body; whether it is compressed is told by its bytes."""
        text = gzip.decompress(self.body) if self.body.startswith(_GZIP_MAGIC) else self.body
        envelope: dict[str, Any] = json.loads(text)
        return envelope

    def events(self) -> list[dict[str, Any]]:
        """Return the events of a batch, or the one event that is the body."""
        envelope = self.envelope()
        events: list[dict[str, Any]] = envelope.get("batch", [envelope])
        return events


@dataclass
class Recorder:
    """Where the collector listens, and what came so far, in order of arrival.

    `refuse_next` counts requests that are answered 503 with a short Retry-After before anything is accepted again.
    """

    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)
    refuse_next: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def events(self) -> list[dict[str, Any]]:
        """Return all events that were accepted."""
        return [event for request in self.posts() for event in request.events()]

    def posts(self) -> list[Request]:
        """Return all requests that brought events and were accepted."""
        with self.lock:
            return [request for request in self.requests if request.method == "POST"]

    def paths(self) -> set[str]:
        """Return the method and path of every request."""
        with self.lock:
            return {f"{request.method} {request.path}" for request in self.requests}

    def accept(self, request: Request) -> bool:
        """Keep a request; False: it is to be refused."""
        with self.lock:
            refused = request.method == "POST" and self.refuse_next > 0
            self.refuse_next -= refused
            (self.refused if refused else self.requests).append(request)
            return not refused


@contextmanager
def recording() -> Iterator[Recorder]:
    """Run a collector on a free port of the loopback interface."""
    recorder = Recorder()

    class Handler(_Handler):
        """Answers for this recorder."""

        keeper = recorder

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorder.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="recorder")
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    keeper: Recorder

    def handle(self) -> None:
        """Serve the connection until either side ends it; a client may do so at any time."""
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        """Take events."""
        if self._keep():
            self._answer(200, {"success": True})
        else:
            self._answer(503, {"code": "BUS_UNAVAILABLE", "message": "try again"}, {"Retry-After": "1"})

    def do_GET(self) -> None:
        """Give analytics-next its settings."""
        self._keep()
        parts = self.path.strip("/").split("/")
        if parts[:2] == ["v1", "projects"] and parts[3:] == ["settings"]:
            self._answer(200, {"integrations": {"Segment.io": {"apiKey": parts[2]}}})
        else:
            self._answer(404, {"code": "ROUTE_NOT_FOUND", "message": self.path})

    def do_OPTIONS(self) -> None:
        """Let a page of another origin send what it asks to send."""
        self._keep()
        allowed = {
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": self.headers.get("Access-Control-Request-Headers", ""),
        }
        self._answer(200, {}, allowed)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the tests' output quiet."""

    def _keep(self) -> bool:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return self.keeper.accept(Request(self.command, urlsplit(self.path).path, self.headers, body))

    def _answer(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Access-Control-Allow-Origin": "*", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
