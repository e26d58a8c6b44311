"""What is declared of topics is what the gateway writes and what the registry and the lock know."""

import json
from importlib import resources

from gateway.encode import EVENTS_TOPIC, FAILED_TOPIC, PROFILES_TOPIC
from gateway.routes.registry import contracts_registry
from tools.compile_topics import declared_topics
from tools.contract_lock import LOCK, read_lock


def test_every_topic_of_the_gateway_is_declared() -> None:
    """Under the same name, and none besides."""
    assert {topic.name for topic in declared_topics().topics} >= {EVENTS_TOPIC, FAILED_TOPIC, PROFILES_TOPIC}


def test_every_header_is_described() -> None:
    """Those of the lock, which are those of the encoder."""
    locked = {name.removeprefix("record header ") for name in read_lock(LOCK) if name.startswith("record header ")}
    assert set(declared_topics().headers) == locked


def test_every_value_has_a_subject_and_an_id() -> None:
    """Named by the topic, as stock clients look for it."""
    table = json.loads((resources.files("clew") / "registry.json").read_text())
    for topic in declared_topics().topics:
        assert contracts_registry().schema_id(topic.value) == table["subjects"][f"{topic.name}-value"][-1]
