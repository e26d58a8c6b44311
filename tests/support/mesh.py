"""A whole mesh for end-to-end tests: `clew up` as a user starts it, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from clew.identity.v1.identity_service_pb2 import IssueTokenRequest
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from cli.endpoints import Endpoints
from cli.layout import BACKEND_CLIENT, Layout
from mesh.spans import SpanRecord, find_trace
from tests.support.edge import Answer, Edge
from tests.support.topics import EVENTS, FAILED, TopicReader

T = TypeVar("T")

_START_SECONDS = 90
_STOP_SECONDS = 40
_MODULES = {"gateway": "gateway", "kafka": "mesh.bus.embedded"}
_SERVICES = ("identity", "consent", "enrich")


@dataclass(slots=True)
class RunningMesh:
    """A mesh that serves, and what reaches it."""

    data_dir: Path
    endpoints: Endpoints
    process: subprocess.Popen[str]
    output: Path
    edge: Edge = field(init=False)
    events: TopicReader = field(init=False)
    failed: TopicReader = field(init=False)

    def __post_init__(self) -> None:
        registry = f"{self.endpoints.http}/registry"
        self.edge = Edge(self.endpoints.http, self.endpoints.write_key)
        self.events = TopicReader(self.endpoints.kafka, registry, EVENTS)
        self.failed = TopicReader(self.endpoints.kafka, registry, FAILED)

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout(self.data_dir)

    def log(self, service: str) -> list[dict[str, Any]]:
        """The JSON lines that a process has logged."""
        lines = (self.layout.logs / f"{service}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self) -> str:
        """What `clew up` has printed, both streams."""
        return self.output.read_text()

    def token(self, subject: str) -> str:
        """A token that proves a user id, as a customer's backend gets it."""
        request = IssueTokenRequest(
            client_id=BACKEND_CLIENT, client_secret=self.layout.prepare().backend_secret, subject=subject
        )
        with grpc.insecure_channel(self.endpoints.grpc["identity"]) as channel:
            return str(IdentityServiceStub(channel).IssueToken(request, timeout=10).access_token)

    def stats(self) -> dict[str, Any]:
        """The gateway's counts of events."""
        answer = self.edge.get("/v1/admin/stats", {"Authorization": f"Bearer {self.endpoints.admin_token}"})
        assert answer.status == 200, answer
        return answer.json

    def pid(self, name: str) -> int:
        """The process id of one of the mesh's processes."""
        module = _MODULES.get(name, f"{name}_svc")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if module in Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0"):
                return int(child)
        raise AssertionError(f"{name} does not run")

    def resident_mib(self, name: str) -> float:
        """The memory that one of its processes occupies now."""
        status = Path(f"/proc/{self.pid(name)}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Freeze one of its processes: connections stay open and nothing is answered."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def trace(self, trace_id: str, *, until: int, seconds: float = 30.0) -> list[SpanRecord]:
        """The spans of a trace, once at least so many are stored."""
        return eventually(lambda: find_trace(self.data_dir, trace_id), lambda spans: len(spans) >= until, seconds)

    def wait_serving(self, seconds: float = 20.0) -> None:
        """Wait until events are accepted again."""
        page = {"type": "page", "anonymousId": "somebody who waits"}
        answer = eventually(lambda: self.edge.post(page), lambda answer: answer.status == 200, seconds)
        assert answer.status == 200, answer

    def stop(self) -> int:
        """One Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_STOP_SECONDS)


def connected(pid: int, port: int) -> bool:
    """Whether a process has an open TCP connection to a port."""
    sockets: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        # What is open changes while we look.
        with suppress(OSError):
            sockets.add(str(entry.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" and f"socket:[{row[9]}]" in sockets for row in rows)


def eventually(look: Callable[[], T], enough: Callable[[T], object], seconds: float = 30.0) -> T:
    """Look until it is enough, or the time is over; what was seen last."""
    deadline = time.monotonic() + seconds
    while not enough(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen


@contextmanager
def running_mesh(data_dir: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[RunningMesh]:
    """Start `clew up` on free ports and stop it at the end, whatever happened.

    `env` is added to this process's own environment.
    """
    output = data_dir.parent / f"{data_dir.name}.out"
    command = [sys.executable, "-m", "cli", "up", "--json", "--http-port", "0", "--data-dir", str(data_dir), *options]
    with output.open("w") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})}
        )
    mesh: RunningMesh | None = None
    try:
        _await_endpoints(data_dir, process, output)
        mesh = RunningMesh(data_dir, Endpoints.read(data_dir), process, output)
        yield mesh
    finally:
        if mesh is not None:
            mesh.events.close()
            mesh.failed.close()
        _end(process)


def _await_endpoints(data_dir: Path, process: subprocess.Popen[str], output: Path) -> None:
    endpoints_file = Layout(data_dir).endpoints
    deadline = time.monotonic() + _START_SECONDS
    while not endpoints_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"clew up did not come up:\n{output.read_text()}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


__all__ = ["EVENTS", "FAILED", "Answer", "RunningMesh", "eventually", "running_mesh"]
