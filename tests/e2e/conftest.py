"""The mesh that the end-to-end tests drive: the same suite on the embedded broker and on a real Apache Kafka."""

from collections.abc import Iterator

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.requirements import require
from tools.kafka.cluster import running_kafka


@pytest.fixture(scope="session", params=["embedded", "kafka"])
def kafka_options(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What `clew up` is told about Kafka: nothing, or where the real one is."""
    if request.param == "embedded":
        yield []
        return
    require("java")
    require("mvn")
    with running_kafka() as kafka:
        yield ["--kafka", kafka.bootstrap]


@pytest.fixture(scope="session")
def mesh(kafka_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A running mesh, shared by the tests; each uses ids of its own."""
    with running_mesh(tmp_path_factory.mktemp("mesh") / "data", *kafka_options) as running:
        yield running
