"""Exactly once on a real Kafka, with real processes that are killed: each message once, each count right."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.gateways import Gateway, Swallower, gateway, totals, verdicts_by_id
from tests.e2e.sdk.drivers import DRIVERS
from tests.support.mesh import RunningMesh, eventually, running_mesh
from tests.support.requirements import require
from tools.kafka.cluster import LocalKafka, running_kafka

pytestmark = pytest.mark.timeout(240)

_BATCH = 20


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    """A broker that may be killed."""
    require("java")
    require("mvn")
    with running_kafka() as running:
        yield running


@pytest.fixture(scope="module")
def mesh(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """The services that the gateways of these tests use; its own gateway takes no events."""
    with running_mesh(tmp_path_factory.mktemp("once") / "data", "--kafka", kafka.bootstrap) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the gateways keep their claims."""
    if request.param == "sqlite":
        return {}
    return {"CLEW_DATABASE": request.getfixturevalue("postgres_url")}


class Load:
    """Sends batches until it is ended or the gateway is gone, and knows which were acknowledged."""

    def __init__(self, target: Gateway) -> None:
        self.sent: list[list[str]] = []
        self.acknowledged: list[str] = []
        self.enough = threading.Event()
        self._target = target
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            ids = new_ids(_BATCH)
            self.sent.append(ids)
            try:
                answer = self._target.send(*ids)
            except OSError:
                return
            if answer.status == 200:
                self.acknowledged += ids
            if len(self.acknowledged) >= 10 * _BATCH:
                self.enough.set()

    def end(self) -> None:
        """Send no more, and wait for the answers that are under way."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def retry(self, target: Gateway) -> dict[str, str]:
        """Send everything again, until it is acknowledged; the verdicts by message id."""
        verdicts: dict[str, str] = {}
        for ids in self.sent:
            answer = eventually(partial(target.send, *ids), lambda answer: answer.status == 200, 30)
            assert answer.status == 200, answer
            verdicts |= verdicts_by_id(answer)
        return verdicts


def new_ids(count: int) -> list[str]:
    """Message ids that nobody used before."""
    return [f"once-{uuid.uuid4().hex}" for _ in range(count)]


def copies(mesh: RunningMesh, ids: list[str]) -> Counter[int]:
    """How many of the messages stand on the topic so many times; read on for a while, so that one too many is seen."""
    found = mesh.events.wait(ids, quiet=1.0)
    return Counter(len(records) for records in found.values())


def check_once(mesh: RunningMesh, load: Load, verdicts: dict[str, str]) -> None:
    """Every message is there once, and what had been acknowledged was a duplicate on its retry."""
    ids = [message_id for batch in load.sent for message_id in batch]
    assert copies(mesh, ids) == {1: len(ids)}
    assert {verdicts[message_id] for message_id in load.acknowledged} == {"duplicate"}
    assert set(verdicts.values()) <= {"accepted", "duplicate"}


def test_a_killed_gateway_publishes_nothing_twice_and_loses_nothing(
    mesh: RunningMesh, tmp_path: Path, settings: dict[str, str]
) -> None:
    """Killed under load, started anew and sent everything again: once on the topic, and the ledger says so."""
    with gateway(mesh, tmp_path, **settings) as first:
        load = Load(first)
        assert load.enough.wait(60)
        first.kill()
        load.end()
    with gateway(mesh, tmp_path, **settings) as second:
        verdicts = load.retry(second)
        check_once(mesh, load, verdicts)
        counts = eventually(lambda: totals(second.ledger()), lambda seen: seen.get("published") == len(verdicts))
        answer = second.ledger()
    assert answer.balanced
    assert counts["published"] == len(verdicts)
    assert counts["duplicate"] == Counter(verdicts.values())["duplicate"]
    assert set(counts) == {"received", "published", "duplicate"}
    assert answer.in_flight == 0


def test_a_retry_right_after_the_answer_and_a_crash_is_a_duplicate(
    mesh: RunningMesh, tmp_path: Path, settings: dict[str, str]
) -> None:
    """Killed in the moment of its 200, before anything was written down: the topic's tail is remembered."""
    ids = new_ids(5)
    with gateway(mesh, tmp_path, **settings) as first:
        assert set(verdicts_by_id(first.send(*ids)).values()) == {"accepted"}
        first.kill()
    with gateway(mesh, tmp_path, **settings) as second:
        answer = eventually(lambda: second.send(*ids), lambda answer: answer.status == 200, 30)
        assert set(verdicts_by_id(answer).values()) == {"duplicate"}
        assert copies(mesh, ids) == {1: 5}
        assert totals(second.ledger()) == {"received": 10, "published": 5, "duplicate": 5}


@pytest.mark.parametrize("library", ["segment-python", "rudder-python"])
def test_an_answer_that_is_lost_after_the_commit_leaves_one_copy(
    mesh: RunningMesh, tmp_path: Path, library: str
) -> None:
    """The client library sends again, is told `duplicate`, and is content: no record is doubled."""
    with gateway(mesh, tmp_path) as target:
        proxy = Swallower(target.edge.url, lose=2)
        prefix = f"lost-{uuid.uuid4().hex[:8]}"
        ids = DRIVERS[library].run(proxy.url, mesh.endpoints.write_key, 3, prefix)
        proxy.close()
        assert len(proxy.lost) == 2
        assert copies(mesh, ids) == {1: len(ids)}
        counts = totals(target.ledger())
        assert counts["published"] == len(ids)
        assert counts["duplicate"] >= 2
        assert counts["received"] == counts["published"] + counts["duplicate"]


def test_two_gateways_publish_a_message_once(mesh: RunningMesh, tmp_path: Path, postgres_url: str) -> None:
    """The same messages at the same time at both: one accepts each, the other one calls it a duplicate."""
    settings = {"CLEW_DATABASE": postgres_url}
    ids = new_ids(100)
    with (
        gateway(mesh, tmp_path / "a", **settings) as first,
        gateway(mesh, tmp_path / "b", **settings) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        targets = [first, second, first, second]
        answers = list(pool.map(lambda each: each[0].send(each[1]), [(to, one) for one in ids for to in targets]))
        assert {answer.status for answer in answers} == {200}
        by_id = Counter((next(iter(verdicts_by_id(answer).items()))) for answer in answers)
        assert all(by_id[one, "accepted"] == 1 and by_id[one, "duplicate"] == 3 for one in ids)
        assert copies(mesh, ids) == {1: 100}
        expected = {"received": 400, "published": 100, "duplicate": 300}
        assert eventually(lambda: totals(second.ledger()), lambda counts: counts == expected) == expected


def test_another_gateway_settles_what_a_killed_one_left(mesh: RunningMesh, tmp_path: Path, postgres_url: str) -> None:
    """Retries go to the one that lives; until it has read what the other one published, it says to come again."""
    settings = {"CLEW_DATABASE": postgres_url}
    with gateway(mesh, tmp_path / "a", **settings) as first, gateway(mesh, tmp_path / "b", **settings) as second:
        load = Load(first)
        assert load.enough.wait(60)
        first.kill()
        load.end()
        verdicts = load.retry(second)
        check_once(mesh, load, verdicts)
        expected = len(verdicts)
        counts = eventually(lambda: totals(second.ledger()), lambda seen: seen.get("published") == expected)
        assert second.ledger().balanced
    assert counts["published"] == expected
    assert counts["received"] == counts["published"] + counts["duplicate"]


def test_a_broker_that_is_killed_under_load_has_every_message_once(
    mesh: RunningMesh, kafka: LocalKafka, tmp_path: Path, settings: dict[str, str]
) -> None:
    """What was under way is settled when it is back, by its answers or by the topic's tail."""
    with gateway(mesh, tmp_path, CLEW_KAFKA_DELIVERY_SECONDS="3", **settings) as target:
        load = Load(target)
        assert load.enough.wait(60)
        kafka.kill()
        answers = [target.send(*ids) for ids in (new_ids(1), new_ids(1))]
        assert {answer.status for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        kafka.start()
        eventually(lambda: target.send(*new_ids(1)), lambda answer: answer.status == 200, 60)
        load.end()
        verdicts = load.retry(target)
        check_once(mesh, load, verdicts)
        assert target.ledger().balanced
