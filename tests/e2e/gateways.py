"""Gateways as processes that can be killed, over scripted services, on a real Kafka and a store of their choice."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from clew.identity.v1.identity_service_pb2 import IssueTokenRequest
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from clew.ledger.v1.ledger_service_pb2 import GetLedgerRequest, GetLedgerResponse
from clew.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from cli.layout import ADMIN_CLIENT, Layout
from tests.support.edge import Answer, Edge
from tests.support.mesh import RunningMesh
from tools.kafka.cluster import free_ports

ROOT = Path(__file__).parents[2]
START_SECONDS = 90


@dataclass(slots=True)
class Gateway:
    """A gateway's process and how to reach it."""

    process: subprocess.Popen[bytes]
    edge: Edge
    grpc: str
    identity: str
    layout: Layout

    def send(self, *message_ids: str) -> Answer:
        """One batch of track calls with these message ids."""
        return self.edge.post(*(event(message_id) for message_id in message_ids))

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def ledger(self) -> GetLedgerResponse:
        """All counts."""
        secret = self.layout.prepare().admin_secret
        with grpc.insecure_channel(self.identity) as channel:
            asked = IssueTokenRequest(client_id=ADMIN_CLIENT, client_secret=secret)
            token = IdentityServiceStub(channel).IssueToken(asked, timeout=10).access_token
        with grpc.insecure_channel(self.grpc) as channel:
            metadata = (("authorization", f"Bearer {token}"),)
            answer: GetLedgerResponse = LedgerServiceStub(channel).GetLedger(
                GetLedgerRequest(), timeout=10, metadata=metadata
            )
            return answer


def event(message_id: str) -> dict[str, Any]:
    """One track call."""
    return {"type": "track", "event": "Seen", "messageId": message_id, "anonymousId": "visitor"}


@contextmanager
def gateway(mesh: RunningMesh, data_dir: Path, **settings: str) -> Iterator[Gateway]:
    """Start a gateway beside the one of a mesh, on its services and its Kafka; killed at the end if it still runs."""
    ports = free_ports(2)
    environ = {
        **os.environ,
        "CLEW_LISTEN": f"127.0.0.1:{ports[0]}",
        "CLEW_HTTP_PORT": str(ports[1]),
        "CLEW_DATA_DIR": str(data_dir),
        "CLEW_KAFKA": mesh.endpoints.kafka,
        "CLEW_SOURCES_FILE": str(mesh.layout.sources),
        **{f"CLEW_{name.upper()}": mesh.endpoints.grpc[name] for name in ("identity", "consent", "enrich")},
        **settings,
    }
    data_dir.mkdir(exist_ok=True)
    with (data_dir / "gateway.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], env=environ, stderr=log, cwd=ROOT)
    edge = Edge(f"http://127.0.0.1:{ports[1]}", mesh.endpoints.write_key)
    started = Gateway(process, edge, f"127.0.0.1:{ports[0]}", mesh.endpoints.grpc["identity"], mesh.layout)
    try:
        _await_ready(started, data_dir / "gateway.log")
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


def _await_ready(started: Gateway, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and started.process.poll() is None:
        try:
            if started.edge.get("/readyz").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the gateway did not come up:\n{log.read_text()}")


class Swallower:
    """A proxy before a gateway that loses answers: the request is carried out, and its client's connection is cut.

    Args:
        target: URL of the gateway.
        lose: How many answers are lost, the first ones to requests for events.
    """

    def __init__(self, target: str, lose: int) -> None:
        self.lost: list[bytes] = []
        self._target = urlsplit(target).netloc
        self._lose = lose
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rb") as stream:
                self._carry(client, stream)

    def _carry(self, client: socket.socket, stream: Any) -> None:
        method, path, _ = stream.readline().decode().split(" ", 2)
        headers = http.client.parse_headers(stream)
        body = stream.read(int(headers.get("Content-Length", "0")))
        upstream = http.client.HTTPConnection(self._target, timeout=30)
        upstream.request(method, path, body, dict(headers.items()))
        response = upstream.getresponse()
        answer = response.read()
        upstream.close()
        if len(self.lost) < self._lose and response.status == 200:
            self.lost.append(body)
            return
        head = f"HTTP/1.1 {response.status} OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + answer)


def totals(answer: GetLedgerResponse) -> Mapping[str, int]:
    """The ledger's counts, added up, zeros left out."""
    counts: Counter[str] = Counter()
    for entry in answer.entries:
        counts.update(received=entry.received, published=entry.published, duplicate=entry.duplicate)
        counts.update(rejected=sum(each.count for each in entry.rejected))
        counts.update(filtered=sum(each.count for each in entry.filtered))
    return {name: count for name, count in counts.items() if count}


def verdicts_by_id(answer: Answer) -> dict[str, str]:
    """The verdicts of an answer by message id."""
    return {each["messageId"]: each["verdict"] for each in json.loads(answer.body)["events"]}
