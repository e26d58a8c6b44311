"""The real Kafka of the tests of buses: one for all modules, as each test has a topic of its own."""

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.support.requirements import require
from tools.kafka.cluster import LocalKafka, running_kafka

KAFKA = os.environ.get("CLEW_TEST_KAFKA", "")


@pytest.fixture(scope="session")
def real_kafka() -> Iterator[LocalKafka | str]:
    """The real cluster: the one that is named, or one of our own. Who stops it starts it again."""
    if KAFKA:
        yield KAFKA
        return
    require("java")
    require("mvn")
    with running_kafka() as kafka:
        yield kafka


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"test.{uuid.uuid4().hex[:12]}"
