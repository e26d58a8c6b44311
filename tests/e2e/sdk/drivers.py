"""The real client libraries, unmodified, each behind the same call.

    ids = DRIVERS["segment-node"].run(endpoint, write_key, count=3, prefix="run-1")

makes the calls of `scenario.calls` and returns the message ids that were sent, once the library says that all of them
are delivered. A library that needs a tool which is not there ends the test (see `tests.support.requirements`).
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.sdk import browser
from tests.e2e.sdk.node import node_modules
from tests.e2e.sdk.scenario import Call, calls
from tests.support.requirements import require

HERE = Path(__file__).parent

_TIMEOUT_SECONDS = 60.0


class DeliveryError(AssertionError):
    """A client library did not deliver what it was given."""


class Driver(Protocol):
    """One client library."""

    def run(
        self,
        endpoint: str,
        write_key: str,
        count: int,
        prefix: str,
        *,
        tokens: Mapping[str, str] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> list[str]:
        """Send the calls of `count` visitors and return the ids of the messages.

        Args:
            endpoint: the collector, `http://HOST:PORT`.
            write_key: the source's key.
            count: how many visitors; each makes `scenario.CALLS_PER_VISITOR` calls.
            prefix: what the visitors' ids begin with; see `scenario.anonymous_id` and `scenario.user_id`.
            tokens: identity tokens by user id, sent as `context.identityToken`.
            timeout_seconds: how long the library may take.

        Raises:
            DeliveryError: the library gave up, or was not done in time.
        """
        ...


class PythonDriver:
    """A Python library, in a process of its own."""

    def __init__(self, script: str) -> None:
        self._script = HERE / script

    def run(
        self,
        endpoint: str,
        write_key: str,
        count: int,
        prefix: str,
        *,
        tokens: Mapping[str, str] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> list[str]:
        """Send; see `Driver`."""
        return self.send(endpoint, write_key, calls(prefix, count, tokens), timeout_seconds=timeout_seconds)

    def send(
        self, endpoint: str, write_key: str, some: Sequence[Call], *, timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> list[str]:
        """Make any calls, and return the ids of their messages in the same order.

        Raises:
            DeliveryError: see `Driver`.
        """
        job = {"endpoint": endpoint, "writeKey": write_key, "calls": list(some)}
        return _run([sys.executable, str(self._script)], job, timeout_seconds)


class NodeDriver:
    """A library for Node.js, in a process of its own."""

    def __init__(self, script: str) -> None:
        self._script = HERE / script

    def run(
        self,
        endpoint: str,
        write_key: str,
        count: int,
        prefix: str,
        *,
        tokens: Mapping[str, str] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> list[str]:
        """Send; see `Driver`."""
        job = _job(endpoint, write_key, count, prefix, tokens)
        command = [str(require("node")), str(self._script)]
        return _run(command, job, timeout_seconds, NODE_PATH=str(node_modules()))


class BrowserDriver:
    """The browser library, on a page in Chromium whose origin is not the collector's.

    Args:
        delivery: what is set beside host and protocol, for example its `deliveryStrategy`.
    """

    def __init__(self, delivery: Mapping[str, Any] | None = None) -> None:
        self._delivery = dict(delivery or {})

    def run(
        self,
        endpoint: str,
        write_key: str,
        count: int,
        prefix: str,
        *,
        tokens: Mapping[str, str] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> list[str]:
        """Send; see `Driver`."""
        job = {**_job(endpoint, write_key, count, prefix, tokens), "delivery": self._delivery}
        chromium = require("chromium")
        library = node_modules() / "@segment/analytics-next/dist/umd/index.js"
        try:
            report = browser.visit(chromium, library, job, timeout_seconds)
        except TimeoutError as error:
            raise DeliveryError(str(error)) from error
        if "error" in report:
            raise DeliveryError(report["error"])
        return list(report["messageIds"])


PYTHON_DRIVERS: dict[str, PythonDriver] = {
    "segment-python": PythonDriver("segment_python.py"),
    "rudder-python": PythonDriver("rudder_python.py"),
}
DRIVERS: dict[str, Driver] = {
    **PYTHON_DRIVERS,
    "segment-node": NodeDriver("segment_node.cjs"),
    "rudder-node": NodeDriver("rudder_node.cjs"),
    "segment-browser": BrowserDriver(),
    "segment-browser-batching": BrowserDriver(
        {"deliveryStrategy": {"strategy": "batching", "config": {"size": 10, "timeout": 250}}}
    ),
}


def _job(endpoint: str, write_key: str, count: int, prefix: str, tokens: Mapping[str, str] | None) -> dict[str, Any]:
    return {"endpoint": endpoint, "writeKey": write_key, "calls": calls(prefix, count, tokens)}


def _run(command: list[str], job: Mapping[str, Any], timeout_seconds: float, **environ: str) -> list[str]:
    """Run a driver program with a job on its standard input; it prints one JSON line per delivered message."""
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeliveryError(f"not done within {timeout_seconds} s: {error.stderr!r}") from error
    if done.returncode:
        raise DeliveryError(done.stderr)
    return [json.loads(line)["messageId"] for line in done.stdout.splitlines()]
