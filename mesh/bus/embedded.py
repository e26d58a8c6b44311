"""The embedded broker: librdkafka's mock in a process of its own, so that a mesh runs where no Kafka is installed.

    python -m mesh.bus.embedded

writes one JSON line to standard output when it takes connections, `{"bootstrap": "127.0.0.1:PORT", "durable": false}`,
and the same line to the file that CLEW_READY_FILE names. SIGTERM and SIGINT end it.

It is no Kafka for keeps: memory only, about 5 MB a partition, no compaction, no retention, no transactions. The port is
the mock's own choice, another one on each start.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.bus.mock_cluster import MockCluster
from mesh.settings import SettingsError, read_settings, setting

_EXIT_SETTINGS: Final = 2
_NOTICE: Final = "embedded broker: records are in memory only and are gone when it stops; not for production"


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """What the embedded broker offers."""

    topics: tuple[str, ...] = setting(
        "CLEW_EMBEDDED_TOPICS",
        default=(),
        help="Topics to create, NAME:PARTITIONS with commas; others are created when first used, with 4 partitions.",
    )
    ready_file: Path | None = setting(
        "CLEW_READY_FILE", default=None, help="File that gets the bootstrap address as JSON when the broker is ready."
    )

    def __post_init__(self) -> None:
        for topic in self.topics:
            _split_topic(topic)


def start_embedded(
    topics: Sequence[str] = (), *, timeout_seconds: float = 15.0, environ: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the embedded broker as a child process and wait until it is ready.

    The child has a session of its own, so that a Ctrl-C at the terminal reaches whoever publishes first and the broker
    only when the caller ends it (`terminate`).

    Args:
        topics: What to create, `NAME:PARTITIONS` each.
        timeout_seconds: How long to wait for it.
        environ: Its environment; the caller's own when absent.

    Returns:
        The process and its bootstrap address.

    Raises:
        RuntimeError: It ended or said nothing in time; it is not running then.
    """
    environment = {**(os.environ if environ is None else environ), "CLEW_EMBEDDED_TOPICS": ",".join(topics)}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", __name__], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    line = _first_line(process, timeout_seconds)
    if not line:
        process.kill()
        process.wait()
        raise RuntimeError(f"the embedded broker did not start, exit status {process.returncode}")
    return process, str(json.loads(line)["bootstrap"])


def main() -> None:
    """Run the broker until a signal ends it."""
    stop = {signal.SIGTERM, signal.SIGINT}
    # Blocked before librdkafka starts its threads, which inherit it: the signals are for `sigwait` alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    try:
        settings = read_settings(EmbeddedSettings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_EXIT_SETTINGS)
    with MockCluster() as cluster:
        for topic in settings.topics:
            cluster.create_topic(*_split_topic(topic))
        _announce(cluster.bootstrap, settings.ready_file)
        signal.sigwait(stop)


def _announce(bootstrap: str, ready_file: Path | None) -> None:
    sys.stderr.write(f"{_NOTICE}\n")
    line = json.dumps({"bootstrap": bootstrap, "durable": False})
    if ready_file is not None:
        # Renamed into place: whoever waits for the file never reads half of it.
        partial = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        partial.write_text(f"{line}\n", encoding="utf-8")
        partial.replace(ready_file)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _split_topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.rpartition(":")
    if not name or not partitions.isdecimal() or int(partitions) < 1:
        raise ValueError(f"CLEW_EMBEDDED_TOPICS: {text!r} is no NAME:PARTITIONS")
    return name, int(partitions)


def _first_line(process: subprocess.Popen[bytes], timeout_seconds: float) -> bytes:
    """What the process says first; empty when it ends or the time is over."""
    if process.stdout is None:
        return b""
    with process.stdout as output:
        readable, _, _ = select.select([output], [], [], timeout_seconds)
        return output.readline() if readable else b""


if __name__ == "__main__":
    main()
