"""The embedded broker as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from mesh.bus.embedded import start_embedded
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings
from mesh.bus.port import Record
from tests.mesh.bus.brokers import read_topic


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_it_takes_records_until_a_signal_ends_it(how: signal.Signals) -> None:
    """What is published can be read by another client; the signal ends the process with status 0."""
    process, bootstrap = start_embedded()
    try:
        bus = KafkaBus(KafkaSettings(bootstrap))
        assert await bus.produce([Record("t", b"k", b"v", [("h", b"1")])]) == []
        await bus.close()
        assert read_topic(bootstrap, "t", 1) == [Record("t", b"k", b"v", [("h", b"1")])]
    finally:
        process.send_signal(how)
        assert process.wait(10) == 0


def test_topics_have_the_partitions_that_were_asked_for() -> None:
    """Named topics exist from the start."""
    process, bootstrap = start_embedded(["clew.a.v1:6", "clew.b.v1:1"])
    try:
        topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=5).topics
        assert {name: len(topic.partitions) for name, topic in topics.items()} == {"clew.a.v1": 6, "clew.b.v1": 1}
    finally:
        process.terminate()
        process.wait(10)


def test_it_announces_itself_and_says_that_it_forgets(tmp_path: Path) -> None:
    """One JSON line on standard output, the same in the ready file, and a plain warning on standard error."""
    ready = tmp_path / "ready.json"
    with subprocess.Popen(
        [sys.executable, "-m", "mesh.bus.embedded"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "CLEW_READY_FILE": str(ready)},
        text=True,
    ) as process:
        deadline = time.monotonic() + 15
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.terminate()
        out, err = process.communicate(timeout=10)

    told = json.loads(ready.read_text())
    assert json.loads(out) == told
    assert told["durable"] is False
    assert told["bootstrap"].startswith("127.0.0.1:")
    assert err == "embedded broker: records are in memory only and are gone when it stops; not for production\n"


def test_a_wrong_topic_list_ends_it_with_what_to_do() -> None:
    """Bad settings: status 2, the variable named; the helper does not wait for nothing."""
    with pytest.raises(RuntimeError, match="exit status 2"):
        start_embedded(["clew.a.v1"])
