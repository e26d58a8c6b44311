"""A whole mesh for end-to-end tests: `clew up` as a user starts it, in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from cli.endpoints import Endpoints
from cli.layout import Layout

EVENTS = "clew.events.v1"
FAILED = "clew.events.failed.v1"
_START_SECONDS = 60
_STOP_SECONDS = 40


@dataclass(slots=True)
class RunningMesh:
    """A mesh that serves, and what reaches it."""

    data_dir: Path
    endpoints: Endpoints
    process: subprocess.Popen[str]

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout(self.data_dir)

    def log(self, service: str) -> list[dict[str, Any]]:
        """The JSON lines that a process has logged."""
        lines = (self.layout.logs / f"{service}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> int:
        """One Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def running_mesh(data_dir: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[RunningMesh]:
    """Start `clew up` on free ports and stop it at the end, whatever happened."""
    output = (data_dir.parent / f"{data_dir.name}.out").open("w+")
    command = [sys.executable, "-m", "cli", "up", "--json", "--http-port", "0", "--data-dir", str(data_dir), *options]
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        endpoints_file = Layout(data_dir).endpoints
        deadline = time.monotonic() + _START_SECONDS
        while not endpoints_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                output.seek(0)
                raise AssertionError(f"clew up did not come up:\n{output.read()}")
            time.sleep(0.05)
        yield RunningMesh(data_dir, Endpoints.read(data_dir), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        output.close()


def read_topic(bootstrap: str, topic: str, *, until: int, seconds: float = 15.0, quiet: float = 1.0) -> list[Any]:
    """All messages of a topic from its beginning.

    Waits for `until` of them and then for `quiet` seconds without another, so that one too many is seen.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions or {0: None}
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        found: list[Any] = []
        deadline = time.monotonic() + seconds
        last = time.monotonic()
        while time.monotonic() < deadline and (len(found) < until or time.monotonic() - last < quiet):
            for message in consumer.consume(500, timeout=0.2):
                if message.error() is None:
                    found.append(message)
                    last = time.monotonic()
        return found
    finally:
        consumer.close()
