"""One process of a local Kafka: its ports, its folder, its log."""

import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

from tools.kafka.archives import KafkaUnavailableError

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 30
# Less compiled code. Measured: a broker that starts, serves for five seconds and stops takes 6 s of CPU, not 10.
BRIEF_JVM_OPTIONS: Final = ("-XX:TieredStopAtLevel=1",)
# An ApiVersions request, version 0, without a client id: what every node answers once it serves requests.
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Node:
    """One process, its configuration and its log.

    Args:
        number: Its id in the cluster.
        folder: Where everything of it goes.
        port: Where clients reach it; the controller's, where it is no broker.
        java: The command that runs a class of Kafka.
    """

    def __init__(self, number: int, folder: Path, port: int, java: list[str]) -> None:
        self.number = number
        self.port = port
        self.advertised_port = port
        """Where clients are told that it is; another one when something stands between. To be set before the start."""
        self.data = folder / "data"
        self.properties = folder / "server.properties"
        self.log = folder / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._java = java

    def format(self, cluster_id: str) -> None:
        """Prepare the data directory, unless it was before.

        Raises:
            KafkaUnavailableError: Kafka cannot.
        """
        if (self.data / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties)]
        command = [*self._java, *BRIEF_JVM_OPTIONS, *tool]
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
        """Return when it answers requests.

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
        """Send a signal and wait for the end; a process that does not heed it in time is killed."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def _answers(port: int) -> bool:
    """Whether a node answers requests on the port; it accepts connections long before."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(_API_VERSIONS)
            return len(connection.recv(8)) == 8
    except OSError:
        return False
