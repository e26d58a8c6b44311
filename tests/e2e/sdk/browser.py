"""A page of our own in a real browser, with analytics-next on it."""

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# Headless, and without anything that a browser asks the internet for on its own.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_CLOSE_SECONDS = 10


def visit(chromium: Path, library: Path, job: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """Open the page in a browser with an empty profile, let it do a job, and return what it reports.

    Raises:
        TimeoutError: the page reported nothing in time.
    """
    files = {
        "/": ("text/html", (HERE / "browser.html").read_bytes()),
        "/browser.js": ("text/javascript", (HERE / "browser.js").read_bytes()),
        "/analytics.js": ("text/javascript", library.read_bytes()),
        "/job": ("application/json", json.dumps(job).encode()),
    }
    with _served(files) as (address, reports), _browsing(chromium, address):
        try:
            return reports.get(timeout=timeout_seconds)
        except queue.Empty:
            raise TimeoutError(f"the page reported nothing within {timeout_seconds} s") from None


@contextmanager
def _browsing(chromium: Path, address: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        command = [str(chromium), *_FLAGS, f"--user-data-dir={profile}", address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                yield
            finally:
                browser.terminate()
                try:
                    browser.wait(_CLOSE_SECONDS)
                except subprocess.TimeoutExpired:
                    browser.kill()


@contextmanager
def _served(files: Mapping[str, tuple[str, bytes]]) -> Iterator[tuple[str, "queue.SimpleQueue[dict[str, Any]]"]]:
    reports: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    class Page(BaseHTTPRequestHandler):
        """Serves the page and takes its report."""

        def do_GET(self) -> None:
            """Give out a file."""
            content_type, content = files.get(self.path, ("text/plain", b""))
            self.send_response(200 if self.path in files else 404)
            self.send_header("Content-Type", f"{content_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            """Take the report."""
            report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            reports.put(report)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Keep the tests' output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, name="page")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", reports
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
