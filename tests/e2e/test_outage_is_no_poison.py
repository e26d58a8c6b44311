"""With Kafka or a service down nothing goes to the failed topic, with store-and-forward and without it (real Kafka)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mesh.ids import new_id
from tests.support.edge import Answer
from tests.support.mesh import RunningMesh, running_mesh
from tests.support.requirements import require
from tools.kafka.cluster import LocalKafka, running_kafka

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    """A Kafka of its own."""
    require("java")
    require("mvn")
    with running_kafka() as running:
        yield running


@pytest.fixture(scope="module", params=["answering 503", "spooling"])
def mesh(
    request: pytest.FixtureRequest, kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningMesh]:
    """A mesh on it."""
    spool = ["--spool", "64"] if request.param == "spooling" else []
    directory: Path = tmp_path_factory.mktemp("outage") / "data"
    with running_mesh(directory, "--kafka", kafka.bootstrap, *spool) as running:
        yield running


@contextmanager
def _gone(kafka: LocalKafka) -> Iterator[None]:
    kafka.kill()
    try:
        yield
    finally:
        kafka.start()


def _send(mesh: RunningMesh, good: str, bad: str) -> Answer:
    """A good event and a poison one in one request."""
    visitor = {"type": "track", "event": "Bought", "anonymousId": good}
    return mesh.edge.post({**visitor, "messageId": good}, {**visitor, "type": "nonsense", "messageId": bad})


@pytest.mark.parametrize("what", ["identity", "consent", "enrich", "kafka"])
def test_an_outage_is_never_filed_as_a_poison_message(mesh: RunningMesh, kafka: LocalKafka, what: str) -> None:
    """Good events come to their own topic once it is over, each once; on the failed topic is the poison one alone."""
    outage: AbstractContextManager[None] = _gone(kafka) if what == "kafka" else mesh.stopped(what)
    sent = [(new_id(), new_id()) for _ in range(2)]
    with outage:
        answers = [_send(mesh, *pair) for pair in sent]
    mesh.wait_serving(60)
    for answer, pair in zip(answers, sent, strict=True):
        assert answer.status in {200, 503}
        if answer.status == 503:
            # What a client library does.
            assert _send(mesh, *pair).status == 200
    found = mesh.events.wait([good for good, _ in sent], seconds=60, quiet=1.0)
    assert {len(records) for records in found.values()} == {1}
    filed = [record.message.message_id for record in mesh.failed.now()]
    assert set(filed) >= {bad for _, bad in sent}
    assert not set(filed) & {good for good, _ in sent}
