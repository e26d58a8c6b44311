"""Brokers whose topics are read: the embedded one's mock, and a real Apache Kafka."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from cli.topic.access import Access
from mesh.bus.mock_cluster import MockCluster
from mesh.ids import new_id
from tests.support.requirements import require
from tools.kafka.cluster import running_kafka


@dataclass(frozen=True, slots=True)
class Written:
    """A broker with a topic that tests write to."""

    bootstrap: str
    real: bool
    topic: str

    @property
    def access(self) -> Access:
        """As the options name it."""
        return Access(Path("nowhere"), self.bootstrap)

    def write(self, *records: dict[str, Any], topic: str = "") -> None:
        """Produce records, in order: the arguments of a producer's `produce`."""
        # Idempotent, so that a topic that is being made turns no two records round.
        config = {"enable.idempotence": True, "message.max.bytes": 2 << 20, "linger.ms": 0, "log_level": 0}
        producer = Producer({"bootstrap.servers": self.bootstrap, **config})
        failures: list[object] = []
        for record in records:
            producer.produce(
                topic or self.topic, **record, on_delivery=lambda error, _: failures.append(error) if error else None
            )
        assert producer.flush(30) == 0
        assert failures == []


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def bootstrap(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    """Each broker's address, and whether it is a real one."""
    if request.param == "embedded":
        with MockCluster() as cluster:
            yield cluster.bootstrap, False
        return
    require("java")
    require("mvn")
    with running_kafka() as kafka:
        yield kafka.bootstrap, True


_numbers = count()


@pytest.fixture
def written(bootstrap: tuple[str, bool]) -> Written:
    """A topic of its own, which the first write makes."""
    address, real = bootstrap
    return Written(address, real, f"test.{next(_numbers)}.{new_id()}")


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Commands take Ctrl-C for themselves: give it back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
