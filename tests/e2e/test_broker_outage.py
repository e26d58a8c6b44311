"""A real Kafka that goes away and comes back, under load: nothing acknowledged is lost, nothing held grows for ever."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesh.ids import new_id
from tests.e2e.sdk.drivers import DRIVERS
from tests.support.edge import Answer
from tests.support.mesh import RunningMesh, connected, eventually, running_mesh
from tests.support.requirements import require
from tests.support.topics import Received
from tools.kafka.cluster import LocalKafka, running_kafka

pytestmark = pytest.mark.timeout(240)

_LIBRARIES = ("segment-python", "rudder-python")
_VISITORS = 40
# Two rounds of the flood: each waits for the broker until its records' time is up, about 8 s.
_OUTAGE_SECONDS = 20.0
# More than the gateway's queue for Kafka takes, which is 64 MiB.
_SENDERS = 160
_EVENTS_PER_BATCH = 100
_EVENT_BYTES = 4_500
# Measured: 400 MiB for 70 MB of waiting requests.
_MOST_GROWTH_MIB = 600
# What the gateway's queue was seen to take when it is full.
_FULL_QUEUE_MIB = 400
_PATIENCE_SECONDS = 10.0
"""An SDK gives up on an answer after that long."""
_PATIENT_CLIENTS = 4
_PATIENT_EVENT = "Patient"


@dataclass
class Client:
    """Sends one batch after the other and waits when it is told to; keeps the answers and how long they took."""

    mesh: RunningMesh
    events: int = 1
    filling: str = ""
    name: str = "E"
    answers: list[tuple[Answer, float]] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def send(self) -> Answer:
        """One batch of one visitor."""
        return self._post(new_id(), [new_id() for _ in range(self.events)])

    def run(self, stop: threading.Event) -> None:
        """Send until told otherwise."""
        while not stop.is_set():
            stop.wait(float(self.send().headers.get("retry-after", 0.05)))

    def _post(self, visitor: str, ids: list[str]) -> Answer:
        event = {"type": "track", "event": self.name, "anonymousId": visitor, "properties": {"filling": self.filling}}
        began = time.monotonic()
        answer = self.mesh.edge.post(*({**event, "messageId": message_id} for message_id in ids))
        self.answers.append((answer, time.monotonic() - began))
        if answer.status == 200:
            self.acknowledged += ids
        return answer


@dataclass
class PatientClient(Client):
    """Sends the same batch again until it is accepted, as an SDK does; what it has begun it brings to its end."""

    def run(self, stop: threading.Event) -> None:
        """Send until told otherwise."""
        while not stop.wait(0.2):
            visitor, ids = new_id(), [new_id() for _ in range(self.events)]
            while (answer := self._post(visitor, ids)).status != 200:
                time.sleep(float(answer.headers["retry-after"]))


@contextmanager
def _sending(clients: Sequence[Client]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,), name="client") for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@dataclass
class Outage:
    """What was seen of it: answers, memory of the gateway by time since it began, what libraries sent in two waves."""

    probe: Client
    flood: list[Client]
    patient: list[PatientClient]
    memory_before_mib: float
    memory_mib: list[tuple[float, float]]
    sent: dict[str, list[str]]


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    """A Kafka of its own."""
    require("java")
    require("mvn")
    with running_kafka() as running:
        yield running


@pytest.fixture(scope="module")
def mesh(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh on it."""
    with running_mesh(tmp_path_factory.mktemp("outage") / "data", "--kafka", kafka.bootstrap) as running:
        running.wait_serving()
        yield running


@pytest.fixture(scope="module")
def outage(kafka: LocalKafka, mesh: RunningMesh) -> Outage:
    """Libraries at work, the broker stopped in the middle; other libraries and a flood; the broker started again."""
    memory_before, memory = mesh.resident_mib("gateway"), []
    probe, flood = Client(mesh), [Client(mesh, _EVENTS_PER_BATCH, "x" * _EVENT_BYTES) for _ in range(_SENDERS)]
    patient = [PatientClient(mesh, 5, name=_PATIENT_EVENT) for _ in range(_PATIENT_CLIENTS)]
    # The patient ones have something under way when the broker stops.
    with ThreadPoolExecutor(len(_LIBRARIES) * 2) as pool, _sending(patient):
        waves = _start(pool, mesh, "before")
        mesh.events.read(lambda: any(_wave(record) for record in mesh.events.records), 20, 0)
        kafka.stop()
        began = time.monotonic()
        waves |= _start(pool, mesh, "during")
        with _sending([probe, *flood]):
            while (now := time.monotonic() - began) < _OUTAGE_SECONDS:
                memory.append((now, mesh.resident_mib("gateway")))
                time.sleep(0.25)
            # The flood goes on while the broker starts, and for a moment after.
            kafka.start()
            time.sleep(3)
        sent = {wave: future.result() for wave, future in waves.items()}
    mesh.wait_serving()
    return Outage(probe, flood, patient, memory_before, memory, sent)


def _start(pool: ThreadPoolExecutor, mesh: RunningMesh, wave: str) -> dict[str, "Future[list[str]]"]:
    def deliver(library: str) -> list[str]:
        edge = mesh.endpoints
        return DRIVERS[library].run(edge.http, edge.write_key, _VISITORS, f"{wave}-{library}", timeout_seconds=150)

    return {f"{wave}-{library}": pool.submit(deliver, library) for library in _LIBRARIES}


def _wave(record: Received) -> str:
    """The library and the wave that a record comes from; empty: the flood."""
    wave = (record.message.anonymous_id or record.message.user_id).rsplit("-", 2)[0]
    return wave if wave.startswith(("before-", "during-")) else ""


def test_a_viewer_waits_for_a_topic_that_nobody_has_written_to(
    kafka: LocalKafka, mesh: RunningMesh, tmp_path: Path
) -> None:
    """On a new Kafka `clew tail --failed` waits until the first event fails, and shows it."""
    output = tmp_path / "tail"
    command = [sys.executable, "-m", "cli", "tail", "--failed", "--limit", "1", "--data-dir", str(mesh.data_dir)]
    with output.open("w") as sink:
        tail = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        # Started and connected: a topic that came before would be read from its end.
        assert eventually(lambda: connected(tail.pid, kafka.nodes[0].port), bool, 60)
        time.sleep(2)
        assert mesh.edge.post({"type": "shrug", "anonymousId": "a"}).verdicts == ["rejected"]
        assert tail.wait(60) == 0
    finally:
        tail.kill()
        tail.wait()
    assert output.read_text().startswith("failed    unknown_type")


def test_everything_that_the_libraries_hold_arrives(mesh: RunningMesh, outage: Outage) -> None:
    """All that two unmodified libraries were given before and during the outage is on the topic afterwards, once.

    What was not acknowledged in time may have been stored, and is sent again: then it is not published again.
    """
    for wave, sent in outage.sent.items():
        mesh.events.wait(sent, seconds=60)
        found = Counter(record.message.message_id for record in mesh.events.records if _wave(record) == wave)
        assert found.keys() == set(sent)
        assert [message_id for message_id, count in found.items() if count > 1] == []


def test_nothing_that_was_acknowledged_is_lost(mesh: RunningMesh, outage: Outage) -> None:
    """Each event that was answered with 200, before, during or after the outage, is on the topic."""
    acknowledged = [message_id for client in (outage.probe, *outage.flood) for message_id in client.acknowledged]
    assert acknowledged
    mesh.events.wait(acknowledged, seconds=60)


def test_what_was_sent_is_what_is_there(mesh: RunningMesh, outage: Outage) -> None:
    """Clients that send again until they are answered with 200 find exactly what they sent on the topic, each once."""
    sent = {message_id for client in outage.patient for message_id in client.acknowledged}
    assert 503 in {answer.status for client in outage.patient for answer, _ in client.answers}
    mesh.events.wait(sent, seconds=60)
    found = Counter(r.message.message_id for r in mesh.events.records if r.message.event == _PATIENT_EVENT)
    assert found == Counter(sent)


def test_clients_are_told_to_come_back(outage: Outage) -> None:
    """During the outage every request is answered within 10 s with 503 and a whole number of seconds to wait.

    In its first half second, before anybody knows that it is one, a source that floods may be told 429.
    """
    refused = [
        answer for client in (outage.probe, *outage.flood) for answer, _ in client.answers if answer.status != 200
    ]
    assert refused
    outages = {"BUS_UNAVAILABLE", "OVERLOADED", "DEADLINE_EXCEEDED"}
    codes = {(answer.status, answer.json["code"]) for answer in refused}
    assert codes <= {(429, "RATE_LIMITED"), *((503, code) for code in outages)}
    assert sum(answer.status == 503 for answer in refused) > len(refused) / 2
    assert all(1 <= int(answer.headers["retry-after"]) <= 300 for answer in refused)
    assert all(answer.json["message"] for answer in refused)
    assert max(seconds for _, seconds in outage.probe.answers) < _PATIENCE_SECONDS
    assert 503 in {answer.status for answer, _ in outage.probe.answers}


def test_memory_is_bounded_while_the_broker_is_away(outage: Outage) -> None:
    """The gateway takes what its queue holds and refuses the rest: its memory stays under a bound and stops growing."""
    peak = max(mib for _, mib in outage.memory_mib)
    assert peak - outage.memory_before_mib < _MOST_GROWTH_MIB
    first = max(mib for seconds, mib in outage.memory_mib if seconds < _OUTAGE_SECONDS / 2)
    second = max(mib for seconds, mib in outage.memory_mib if seconds >= _OUTAGE_SECONDS / 2)
    # On a slow machine the clients take longer than the first half to fill the queue.
    full = outage.memory_before_mib + _FULL_QUEUE_MIB
    assert second < max(first * 1.25, full), "it grows with the time that the broker is away"


def test_events_flow_again_after_the_outage(mesh: RunningMesh, outage: Outage) -> None:
    """Nothing has to be restarted: the same processes accept events as before."""
    message_id = new_id()
    assert mesh.edge.post({"type": "page", "anonymousId": "a", "messageId": message_id}).verdicts == ["accepted"]
    mesh.events.one(message_id)
    assert "restarting" not in mesh.said()
    stats = mesh.stats()
    assert stats["in_flight"] == 0
    assert stats["unanswered"] > 0
