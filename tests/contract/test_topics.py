"""What is declared of topics is what the gateway writes and what the registry and the lock know."""

import json
import re
from importlib import resources

from gateway.encode import EVENTS_TOPIC, FAILED_TOPIC, PROFILES_TOPIC
from gateway.redrive.audit import AUDIT_TOPIC
from gateway.routes.registry import contracts_registry
from tools.compile_topics import declared_topics
from tools.contract_lock import LOCK, read_lock
from tools.openapi.comments import ROOT

GATEWAY = ROOT / "gateway"


def test_every_topic_of_the_gateway_is_declared() -> None:
    """Under the same name, and none besides."""
    topics = {EVENTS_TOPIC, FAILED_TOPIC, PROFILES_TOPIC, AUDIT_TOPIC}
    assert {topic.name for topic in declared_topics().topics} == topics


def test_every_header_is_described() -> None:
    """Those of the lock, which are those of the encoder."""
    locked = {name.removeprefix("record header ") for name in read_lock(LOCK) if name.startswith("record header ")}
    assert set(declared_topics().headers) == locked


def test_every_type_of_record_is_described() -> None:
    """The CloudEvents types that the gateway writes, wherever it does, stand in what readers are told of `ce_type`."""
    texts = [path.read_text() for path in GATEWAY.rglob("*.py")]
    written = {found for text in texts for found in re.findall(r"dev\.clew\.\w+\.\w+", text)}
    assert written >= {"dev.clew.event.failed", "dev.clew.profile.merged"}
    described = declared_topics().headers["ce_type"]
    assert [each for each in sorted(written) if f"`{each}`" not in described] == []


def test_every_value_has_a_subject_and_an_id() -> None:
    """Named by the topic, as stock clients look for it."""
    table = json.loads((resources.files("clew") / "registry.json").read_text())
    for topic in declared_topics().topics:
        assert contracts_registry().schema_id(topic.value) == table["subjects"][f"{topic.name}-value"][-1]
