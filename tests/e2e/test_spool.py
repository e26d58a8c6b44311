"""Store and forward on a real Kafka: it goes away under SDK load, and no client sees anything but 200."""

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from clew.consent.v1.consent_pb2 import CHOICE_DENIED, PurposeChoice
from clew.consent.v1.consent_service_pb2 import RecordConsentRequest
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceStub
from clew.options.v1.privacy_pb2 import Purpose
from mesh.ids import new_id
from tests.e2e.gateways import gateway, totals
from tests.e2e.sdk.drivers import DRIVERS
from tests.support.edge import Answer
from tests.support.mesh import RunningMesh, eventually, running_mesh
from tests.support.requirements import require
from tools.kafka.cluster import LocalKafka, running_kafka

pytestmark = pytest.mark.timeout(240)

_LIBRARIES = ("segment-python", "rudder-python")
_VISITORS = 20
_OUTAGE_SECONDS = 6.0
_VISITOR_CLIENTS = 8


@dataclass
class Visitor:
    """A client that sends one event after the other, each once the one before was answered."""

    mesh: RunningMesh
    name: str = field(default_factory=new_id)
    sent: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Send until told otherwise."""
        while not stop.wait(0.02):
            self.sent.append(new_id())
            event = {"type": "track", "event": "Visit", "anonymousId": self.name, "messageId": self.sent[-1]}
            self.answers.append(self.mesh.edge.post(event))


@contextmanager
def _visiting(visitors: list[Visitor]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=visitor.run, args=(stop,), name="visitor") for visitor in visitors]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    """A Kafka of its own."""
    require("java")
    require("mvn")
    with running_kafka() as running:
        yield running


@pytest.fixture(scope="module")
def mesh(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh on it, with a spool."""
    directory = tmp_path_factory.mktemp("spool") / "data"
    with running_mesh(directory, "--kafka", kafka.bootstrap, "--spool", "256") as running:
        running.wait_serving()
        yield running


def _spooled(mesh: RunningMesh) -> int:
    return int(mesh.edge.get("/readyz").json["spool"]["events"])


def _await_drained(mesh: RunningMesh) -> None:
    def drained() -> bool:
        spool = mesh.edge.get("/readyz").json["spool"]
        return bool(spool["state"] == "open" and spool["events"] == 0)

    assert eventually(drained, bool, 60.0), mesh.edge.get("/readyz").body


def _deny_everything(mesh: RunningMesh, profile: str) -> None:
    choices = [PurposeChoice(purpose=purpose, choice=CHOICE_DENIED) for purpose in Purpose.values() if purpose]
    with grpc.insecure_channel(mesh.endpoints.grpc["consent"]) as channel:
        request = RecordConsentRequest(workspace="main", subject=profile, origin="a test", choices=choices)
        ConsentServiceStub(channel).RecordConsent(request, timeout=10)


def test_no_client_sees_an_outage_of_kafka(kafka: LocalKafka, mesh: RunningMesh) -> None:
    """What was sent is what is on the topic, each event once, and each visitor's in their order; the counts agree."""
    visitors = [Visitor(mesh) for _ in range(_VISITOR_CLIENTS)]
    endpoints = mesh.endpoints
    # What the fixture has sent is counted a moment after its answer.
    before = eventually(mesh.stats, lambda stats: stats["accepted"] > 0)
    with ThreadPoolExecutor(len(_LIBRARIES)) as pool, _visiting(visitors):
        eventually(lambda: min(len(visitor.answers) for visitor in visitors), lambda least: least > 10)
        kafka.stop()
        stopped = time.monotonic()
        libraries = [
            pool.submit(
                DRIVERS[library].run,
                endpoints.http,
                endpoints.write_key,
                _VISITORS,
                f"sdk-{library}",
                timeout_seconds=90,
            )
            for library in _LIBRARIES
        ]
        time.sleep(max(0.0, _OUTAGE_SECONDS - (time.monotonic() - stopped)))
        waiting = _spooled(mesh)
        kafka.start()
        sent_by_libraries = [message_id for each in libraries for message_id in each.result()]
        _await_drained(mesh)
        # Some more, to see that answers are `accepted` again.
        counts = [len(visitor.answers) for visitor in visitors]
        eventually(
            lambda: all(len(visitor.answers) > count + 5 for visitor, count in zip(visitors, counts, strict=True)), bool
        )
    _await_drained(mesh)
    answers = [answer for visitor in visitors for answer in visitor.answers]
    assert {answer.status for answer in answers} == {200}
    verdicts = Counter(verdict for answer in answers for verdict in answer.verdicts)
    assert verdicts.keys() == {"accepted", "deferred"}
    assert visitors[0].answers[-1].verdicts == ["accepted"]
    assert waiting > 0
    sent = [message_id for visitor in visitors for message_id in visitor.sent] + sent_by_libraries
    mesh.events.wait(sent, seconds=60, quiet=1.0)
    found = Counter(
        record.message.message_id for record in mesh.events.records if record.message.message_id in set(sent)
    )
    assert found == Counter(sent)
    order: dict[str, list[str]] = defaultdict(list)
    for record in sorted(mesh.events.records, key=lambda record: (record.partition, record.offset)):
        order[record.message.anonymous_id].append(record.message.message_id)
    for visitor in visitors:
        assert order[visitor.name] == visitor.sent
    after = mesh.stats()
    assert after["unanswered"] == before["unanswered"]
    assert after["accepted"] - before["accepted"] == len(sent)
    assert after["deferred"] == after["in_flight"] == 0
    sys.stdout.write(f"verdicts {dict(verdicts)}, {waiting} waited when Kafka came back\n")


def test_a_killed_gateway_keeps_what_it_deferred(kafka: LocalKafka, mesh: RunningMesh, tmp_path: Path) -> None:
    """After kill -9 another run publishes each event once, by the consent of then, and the ledger has each once."""
    data, ids = tmp_path / "gateway", [new_id() for _ in range(30)]
    refuser, refused, known = new_id(), new_id(), new_id()
    assert mesh.edge.post({"type": "page", "anonymousId": refuser, "messageId": known}).verdicts == ["accepted"]
    profile = mesh.events.one(known).message.profile_id
    with gateway(mesh, data, CLEW_SPOOL_MIB="16", CLEW_SPOOL_PATIENCE_SECONDS="5") as first:
        assert first.send(*ids[:10]).verdicts == ["accepted"] * 10
        kafka.stop()
        for message_id in ids[10:]:
            assert first.send(message_id).verdicts == ["deferred"]
        page = {"type": "page", "anonymousId": refuser, "messageId": refused}
        assert first.edge.post(page).verdicts == ["deferred"]
        answer = first.ledger()
        assert (answer.balanced, answer.in_flight, answer.deferred) == (True, 21, 21)
        first.kill()
    _deny_everything(mesh, profile)
    kafka.start()
    with gateway(mesh, data, CLEW_SPOOL_MIB="16") as second:
        # A client that had no answer for sure sends again.
        assert second.send(ids[20]).status == 200
        ledger = eventually(second.ledger, lambda answer: not answer.in_flight, 60.0)
        assert ledger.balanced
        assert totals(ledger) == {"received": 32, "published": 30, "duplicate": 1, "filtered": 1}
    mesh.events.wait(ids, seconds=60, quiet=1.0)
    found = [r.message.message_id for r in mesh.events.records if r.message.message_id in {*ids, refused}]
    assert found == ids
