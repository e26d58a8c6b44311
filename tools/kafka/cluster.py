"""A real Apache Kafka on this machine, without Docker: KRaft, one JVM a broker, the first is the controller as well."""

import base64
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tools.kafka.archives import HERE, KafkaUnavailableError, class_path, java_command

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 90
STOP_SECONDS: Final = 30
# Below the range from which systems pick ports for outgoing connections, so that a stopped broker finds its own again.
PORTS: Final = range(20_000, 30_000)
JVM_OPTIONS: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")
# An ApiVersions request, version 0, without a client id: what every broker answers once it serves requests.
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)

_SERVER_PROPERTIES: Final = """\
node.id={node}
process.roles={roles}
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners={listeners}
advertised.listeners=CLIENTS://{host}:{port}
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# As many partitions for a topic that is created by its first use as the embedded broker gives it.
num.partitions=4
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# A killed broker may register again once its old session ran out: the default of 9 s is what a restart would take.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
# The default would take a quarter of the small heap.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""

# Less compiled code. Measured: a broker that starts, serves for five seconds and stops takes 6 s of CPU, not 10.
_BRIEF_JVM_OPTIONS: Final = ("-XX:TieredStopAtLevel=1",)
# With the options above, measured on two shared cores, killed and started again: 3 to 4 s, without them 6 to 10.
_QUICK_PROPERTIES: Final = """\
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class Node:
    """One broker's process, its configuration and its log."""

    def __init__(self, number: int, folder: Path, port: int, java: list[str]) -> None:
        self.number = number
        self.port = port
        self.data = folder / "data"
        self.properties = folder / "server.properties"
        self.log = folder / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._java = java

    def format(self, cluster_id: str) -> None:
        """Prepare the data directory, unless it was before."""
        if (self.data / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties)]
        command = [*self._java, *_BRIEF_JVM_OPTIONS, *tool]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaUnavailableError(f"Kafka could not prepare {self.data}:\n{done.stdout}{done.stderr}")

    def launch(self) -> None:
        """Start the process; `await_ready` waits for it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self.properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C at the terminal is for the launcher, which stops the brokers in order.
                start_new_session=True,
            )

    def await_ready(self, deadline: float) -> None:
        """Return when the broker answers requests.

        Raises:
            KafkaUnavailableError: It ended, or the time is over; with the end of its log.
        """
        while not _answers(self.port):
            if not self.running or time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])
                raise KafkaUnavailableError(f"broker {self.number} did not start:\n{tail}")
            time.sleep(0.1)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait for the end; a broker that does not heed it in time is killed."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class LocalKafka:
    """A cluster that can be started, stopped, killed and started again on the same ports and data.

    Args:
        folder: Where data, configuration and logs go; what is there is used again.
        port: Of the first broker, the next ones follow it; 0 picks free ones.
        brokers: How many.
        quick_start: Serve again in about half the time after a kill: brief, with a shorter session. For a single
            broker under a moderate load; a busy machine may miss the heartbeats of so short a session.
        brief: For a cluster that lives for a minute or carries little: it compiles less of its code.

    Raises:
        KafkaUnavailableError: Java or Maven is missing, or Kafka cannot be resolved.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, brokers: int = 1, quick_start: bool = False, brief: bool = False
    ) -> None:
        java = [
            java_command(),
            *JVM_OPTIONS,
            *(_BRIEF_JVM_OPTIONS if brief or quick_start else ()),
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
            "-cp",
            class_path(),
        ]
        ports = [port + number for number in range(brokers)] if port else free_ports(brokers)
        self._controller_port = free_ports(1, taken=ports)[0]
        self._folder = folder
        self._quick_start = quick_start
        self.nodes = [
            Node(number, folder / f"broker-{number}", ports[number - 1], java) for number in range(1, brokers + 1)
        ]

    @property
    def bootstrap(self) -> str:
        """The brokers' addresses, `HOST:PORT` with commas between them."""
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    @property
    def running(self) -> bool:
        """Whether every broker's process lives."""
        return all(node.running for node in self.nodes)

    def start(self) -> None:
        """Start every broker and wait until each answers.

        Raises:
            KafkaUnavailableError: One does not start; none is left running.
        """
        cluster_id = self._cluster_id()
        for node in self.nodes:
            self._write_properties(node)
            node.format(cluster_id)
        deadline = time.monotonic() + START_SECONDS
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.await_ready(deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop in order, the controller last: everything is written to disk."""
        for node in reversed(self.nodes):
            node.end(signal.SIGTERM)

    def kill(self) -> None:
        """End every broker at once, as a power cut would."""
        for node in reversed(self.nodes):
            node.end(signal.SIGKILL)

    def _cluster_id(self) -> str:
        """The id of the data's cluster, made on the first start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "cluster.id"
        if not file.exists():
            # The leading letter keeps Kafka's command line from taking an id that begins with "-" for an option.
            file.write_text("C" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21], "utf-8")
        return file.read_text("utf-8").strip()

    def _write_properties(self, node: Node) -> None:
        node.data.mkdir(parents=True, exist_ok=True)
        controls = node.number == 1
        listeners = [f"CLIENTS://{HOST}:{node.port}"]
        listeners += [f"CONTROLLER://{HOST}:{self._controller_port}"] if controls else []
        replicas = min(len(self.nodes), 3)
        text = _SERVER_PROPERTIES.format(
            node=node.number,
            roles="broker,controller" if controls else "broker",
            host=HOST,
            port=node.port,
            controller_port=self._controller_port,
            listeners=",".join(listeners),
            data=node.data,
            replicas=replicas,
            in_sync=max(1, replicas - 1),
        )
        # What stands last wins.
        node.properties.write_text(text + (_QUICK_PROPERTIES if self._quick_start else ""), "utf-8")


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


def _answers(port: int) -> bool:
    """Whether a broker answers requests on the port; it accepts connections long before."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(_API_VERSIONS)
            return len(connection.recv(8)) == 8
    except OSError:
        return False


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
