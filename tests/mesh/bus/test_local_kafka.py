"""The launcher of a real Kafka: what it says when it cannot start one, and that it stops in order."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings
from mesh.bus.kafka_in_sync import usual_minimum
from mesh.bus.kafka_tail import KafkaTail
from mesh.bus.port import Record
from mesh.bus.tail import Ends
from mesh.errors import BusUnavailable
from tests.mesh.bus.brokers import read_topic
from tests.support.requirements import require
from tools.kafka.archives import KafkaUnavailableError, kafka_version
from tools.kafka.cluster import PORTS, START_SECONDS, LocalKafka, free_ports, running_kafka
from tools.kafka.node import Node

# A killed broker serves, and is in sync, again; on a busy machine.
_BACK_SECONDS = 60.0
LAUNCHER = Path(__file__).parents[3] / "tools" / "kafka" / "kafka.py"


@pytest.fixture
def java_and_maven() -> None:
    """What a real cluster needs."""
    require("java")
    require("mvn")


@pytest.fixture
def old_java(tmp_path: Path) -> Path:
    """A JAVA_HOME with a Java that is too old."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    return tmp_path


def launch(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher to its end."""
    return subprocess.run(
        [sys.executable, str(LAUNCHER), *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def launched(data: Path) -> Iterator[dict[str, str]]:
    """What a running launcher told; it is asked to stop at the end, and must."""
    command = [sys.executable, str(LAUNCHER), "start", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(40)
    assert status == 0


def test_without_java_it_says_what_to_install(tmp_path: Path) -> None:
    """Status 2 and one clear line, no traceback."""
    done = launch("start", "--data", str(tmp_path / "data"), PATH=str(tmp_path), JAVA_HOME="")

    assert done.returncode == 2
    assert "no java found: install Java 17 or newer" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_old_java_is_named(old_java: Path, tmp_path: Path) -> None:
    """Kafka's brokers need 17; what was found is told."""
    done = launch("start", "--data", str(tmp_path / "data"), JAVA_HOME=str(old_java))

    assert done.returncode == 2
    assert "11.0.2" in done.stderr


def test_free_ports_are_distinct_and_outside_the_range_that_systems_pick_from() -> None:
    """A broker that is started again finds its own port free."""
    ports = free_ports(3, taken=[PORTS[0]])

    assert len(set(ports)) == 3
    assert PORTS[0] not in ports
    assert all(port in PORTS for port in ports)


def test_a_broker_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The reason is on the screen, not only in a file."""
    node = Node(1, tmp_path, free_ports(1)[0], ["sh", "-c", "echo port is taken; exit 1"])
    node.launch()
    assert node.process is not None
    node.process.wait(10)

    with pytest.raises(KafkaUnavailableError, match="port is taken"):
        node.await_ready(0.0)


@pytest.mark.usefixtures("java_and_maven")
async def test_the_launcher_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """One JSON line when it serves; SIGTERM stops it with status 0; the next start has the same data."""
    for count in (1, 2):
        with launched(tmp_path) as told:
            bus = KafkaBus(KafkaSettings(told["bootstrap"], delivery_seconds=20.0))
            assert await bus.produce([Record("kept", b"k", b"v")]) == []
            await bus.close()
            assert len(read_topic(told["bootstrap"], "kept", count)) == count

        assert told["version"] == kafka_version()


@pytest.fixture(scope="module")
def three() -> Iterator[LocalKafka]:
    """A cluster of three, all of which run when a test begins and are whole again when it ends."""
    require("java")
    require("mvn")
    with running_kafka(brokers=3) as kafka:
        yield kafka


async def test_a_killed_broker_of_three_costs_nothing(three: LocalKafka) -> None:
    """Topics are replicated: acknowledged records survive, and publishing goes on with two of three in sync."""
    bus = KafkaBus(KafkaSettings(three.bootstrap, delivery_seconds=30.0))
    assert await bus.produce([Record("t", b"%d" % n, b"%d" % n) for n in range(20)]) == []
    with _killed(three.nodes[2]):
        assert await bus.produce([Record("t", b"%d" % n, b"%d" % n) for n in range(20, 40)]) == []
        await bus.close()
        stored = read_topic(three.bootstrap, "t", 40)

    assert {record.value for record in stored} == {b"%d" % n for n in range(40)}


async def test_a_tail_with_too_few_replicas_in_sync_decides_nothing(three: LocalKafka) -> None:
    """With two of three killed the leader may hold records that it shows to nobody: there is no end to be told."""
    settings = KafkaSettings(three.bootstrap)
    bus, tail = KafkaBus(settings), KafkaTail(settings)
    assert await bus.produce([Record("u", b"k", b"before")]) == []
    before = await tail.ends(["u"])
    with _killed(*three.nodes[1:]):
        await _until(tail, "replicas in sync and needs 2")
        hidden = bus.produce([Record("u", b"k", b"hidden")])
        await asyncio.sleep(1.0)
        assert not hidden.done()
        with pytest.raises(BusUnavailable, match="needs 2"):
            await tail.ends(["u"])

    assert await asyncio.wait_for(hidden, _BACK_SECONDS) == []
    after = await _ends(tail)
    assert sum(after.offsets.values()) == sum(before.offsets.values()) + 1
    await bus.close()


@contextmanager
def _killed(*nodes: Node) -> Iterator[None]:
    """Brokers that are away for a while."""
    for node in nodes:
        node.end(signal.SIGKILL)
    try:
        yield
    finally:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.await_ready(time.monotonic() + START_SECONDS)


async def _until(tail: KafkaTail, problem: str) -> None:
    """Return when the tail refuses for a reason."""
    async with asyncio.timeout(_BACK_SECONDS):
        while True:
            try:
                await tail.ends(["u"])
            except BusUnavailable as error:
                if problem in str(error):
                    return
            await asyncio.sleep(0.2)


async def _ends(tail: KafkaTail) -> Ends:
    """The ends, once they are told."""
    async with asyncio.timeout(_BACK_SECONDS):
        while True:
            try:
                return await tail.ends(["u"])
            except BusUnavailable:
                await asyncio.sleep(0.2)


@pytest.mark.parametrize(("replicas", "least"), [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_where_the_cluster_does_not_say_half_of_the_replicas_are_needed(replicas: int, least: int) -> None:
    """Rounded up: what `min.insync.replicas` usually is."""
    assert usual_minimum(replicas) == least
