"""Start a real Apache Kafka without Docker: `python tools/kafka/kafka.py start [--port N] [--data DIR] [--brokers N]`.

It stays in the foreground, tells its progress on standard error and writes one JSON line with the bootstrap address to
standard output when it serves. SIGTERM and Ctrl-C stop it in order. `fetch` only fills the cache.

Exit status: 0 stopped as asked, 1 a broker ended by itself, 2 Java or Maven is missing or a broker did not start.
"""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Final

from tools.kafka.archives import KafkaUnavailableError, class_path, java_command, kafka_version
from tools.kafka.cluster import LocalKafka

DEFAULT_DATA: Final = Path(".clew") / "kafka"
WATCH_SECONDS: Final = 0.5
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Run the command line; the exit status."""
    options = _options()
    try:
        if options.command == "fetch":
            java_command()
            say(f"archives in {class_path()}")
            return 0
        # Data of another number of brokers is of no use to these.
        data = options.data or (DEFAULT_DATA if options.brokers == 1 else Path(f"{DEFAULT_DATA}-{options.brokers}"))
        return start(data.resolve(), options.port, options.brokers)
    except KafkaUnavailableError as error:
        say(str(error))
        return 2


def start(data: Path, port: int, brokers: int) -> int:
    """Run a cluster until a signal stops it or a broker ends by itself; the exit status."""
    # Blocked rather than handled: the signals wait until the cluster can be stopped in order.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    kafka = LocalKafka(data, port=port, brokers=brokers)
    say(f"starting Apache Kafka {kafka_version()}, {brokers} broker(s), data in {data}")
    kafka.start()
    say(f"serving on {kafka.bootstrap}")
    sys.stdout.write(json.dumps({"bootstrap": kafka.bootstrap, "version": kafka_version(), "data": str(data)}) + "\n")
    sys.stdout.flush()
    asked = _wait_for_signal(kafka)
    say("stopping" if asked else f"a broker ended by itself; see {data}/broker-*/kafka.log")
    kafka.stop()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0 if asked else 1


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"kafka: {text}\n")


def _brokers(text: str) -> int:
    """How many brokers an argument asks for."""
    if text not in {*"123456789"}:
        raise argparse.ArgumentTypeError(f"a number from 1 to 9, not {text!r}")
    return int(text)


def _wait_for_signal(kafka: LocalKafka) -> bool:
    """Whether a signal came; false when a broker ended first."""
    while kafka.running:
        if signal.sigtimedwait(STOP_SIGNALS, WATCH_SECONDS) is not None:
            return True
    return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A real Apache Kafka on this machine, without Docker.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="resolve Kafka's archives into the cache and stop")
    starting = commands.add_parser("start", help="run a cluster in the foreground")
    starting.add_argument("--port", type=int, default=0, help="of the first broker; 0 picks a free one")
    starting.add_argument(
        "--data", type=Path, help=f"data directory (default {DEFAULT_DATA}; with N brokers {DEFAULT_DATA}-N)"
    )
    starting.add_argument(
        "--brokers",
        type=_brokers,
        default=1,
        help="how many, 1 to 9 (default 1); several replicate each topic (of three brokers, two must have a record"
        " before it is acknowledged), and have a controller process beside them",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
