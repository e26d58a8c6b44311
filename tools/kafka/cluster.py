"""A real Apache Kafka on this machine, without Docker: KRaft, one JVM a broker.

A single broker is its own controller. Several have one beside them that is none of them: the cluster then survives
the end of any broker, and notices it.
"""

import base64
import random
import shutil
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tools.kafka import properties
from tools.kafka.archives import HERE, class_path, java_command
from tools.kafka.node import BRIEF_JVM_OPTIONS, HOST, Node

START_SECONDS: Final = 90
# Below the range from which systems pick ports for outgoing connections, so that a stopped broker finds its own again.
PORTS: Final = range(20_000, 30_000)
JVM_OPTIONS: Final = ("-XX:+UseSerialGC", "-Djava.awt.headless=true")
_HEAP: Final = ("-Xms128m", "-Xmx512m")
# Several share the machine.
_SMALL_HEAP: Final = ("-Xms64m", "-Xmx256m")
_CONTROLLER_NUMBER: Final = 100


class LocalKafka:
    """A cluster that can be started, stopped, killed and started again on the same ports and data.

    Args:
        folder: Where data, configuration and logs go; what is there is used again.
        port: Of the first broker, the next ones follow it; 0 picks free ones.
        brokers: How many.
        quick_start: Serve again in about half the time after a kill: brief, with a shorter session. Under a moderate
            load only; a busy machine may miss the heartbeats of so short a session.
        brief: For a cluster that lives for a minute or carries little: it compiles less of its code.
        settings: Further lines of every process's properties, by name; they win.

    Raises:
        KafkaUnavailableError: Java or Maven is missing, or Kafka cannot be resolved.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        brokers: int = 1,
        quick_start: bool = False,
        brief: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        java = [
            java_command(),
            *JVM_OPTIONS,
            *(_HEAP if brokers == 1 else _SMALL_HEAP),
            *(BRIEF_JVM_OPTIONS if brief or quick_start else ()),
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
            "-cp",
            class_path(),
        ]
        ports = [port + number for number in range(brokers)] if port else free_ports(brokers)
        self._controller_port, *self._between = free_ports(1 + brokers, taken=ports)
        self._folder = folder
        # What stands last wins.
        self._last = (properties.QUICK if quick_start else "") + "".join(
            f"{name}={value}\n" for name, value in (settings or {}).items()
        )
        self.nodes = [
            Node(number, folder / f"broker-{number}", ports[number - 1], java) for number in range(1, brokers + 1)
        ]
        self.controller: Node | None = None
        """The controller, where it is a process of its own."""
        if brokers > 1:
            self.controller = Node(_CONTROLLER_NUMBER, folder / "controller", self._controller_port, java)

    @property
    def bootstrap(self) -> str:
        """The brokers' addresses for clients, `HOST:PORT` with commas between them."""
        return ",".join(f"{HOST}:{node.advertised_port}" for node in self.nodes)

    @property
    def running(self) -> bool:
        """Whether every process lives."""
        return all(node.running for node in self._all)

    def start(self) -> None:
        """Start every process and wait until each answers.

        Raises:
            KafkaUnavailableError: One does not start; none is left running.
        """
        cluster_id = self._cluster_id()
        for node in self._all:
            node.data.mkdir(parents=True, exist_ok=True)
            node.properties.write_text(self._text(node) + self._last, "utf-8")
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(lambda node: node.format(cluster_id), self._all):
                pass
        try:
            for node in self._all:
                node.launch()
            self.await_ready()
        except BaseException:
            self.kill()
            raise

    def await_ready(self) -> None:
        """Return when every process answers.

        Raises:
            KafkaUnavailableError: One does not in time; with the end of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        for node in self._all:
            node.await_ready(deadline)

    def stop(self) -> None:
        """Stop in order, the controller last: everything is written to disk."""
        for node in reversed(self._all):
            node.end(signal.SIGTERM)

    def kill(self) -> None:
        """End every process at once, as a power cut would."""
        for node in reversed(self._all):
            node.end(signal.SIGKILL)

    @property
    def _all(self) -> list[Node]:
        return [self.controller, *self.nodes] if self.controller else self.nodes

    def _text(self, node: Node) -> str:
        if self.controller is None:
            return properties.single(node, self._controller_port)
        if node is self.controller:
            return properties.controller_only(node, len(self.nodes))
        return properties.broker(node, self._between[node.number - 1], self.controller, len(self.nodes))

    def _cluster_id(self) -> str:
        """The id of the data's cluster, made on the first start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "cluster.id"
        if not file.exists():
            # The leading letter keeps Kafka's command line from taking an id that begins with "-" for an option.
            file.write_text("C" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21], "utf-8")
        return file.read_text("utf-8").strip()


def free_ports(count: int, taken: list[int] | None = None) -> list[int]:
    """Ports on which nothing listens at the moment."""
    found = list(taken or ())
    wanted = len(found) + count
    while len(found) < wanted:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            if port not in found:
                found.append(port)
    return found[-count:]


@contextmanager
def running_kafka(*, brokers: int = 1, quick_start: bool = False, brief: bool = True) -> Iterator[LocalKafka]:
    """A cluster with data of its own, stopped and forgotten at the end; see `LocalKafka` for the options."""
    folder = Path(tempfile.mkdtemp(prefix="clew-kafka-"))
    kafka = LocalKafka(folder, brokers=brokers, quick_start=quick_start, brief=brief)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.kill()
        shutil.rmtree(folder, ignore_errors=True)
