"""Where a running mesh is reachable, for the commands that talk to it."""

import json
from dataclasses import dataclass
from pathlib import Path

from cli.layout import Layout


class NotRunning(Exception):
    """Raised when no mesh serves from the data directory."""


class KafkaAway(NotRunning):
    """Raised when Kafka takes no connections."""


def require_kafka(bootstrap: str) -> None:
    """Look whether Kafka takes connections, before a client tries for its ten seconds.

    Raises:
        KafkaAway: It does not; the message says what to do.
    """
    from cli.health import kafka_problem  # noqa: PLC0415 - only who reads topics loads it

    if problem := kafka_problem(bootstrap):
        raise KafkaAway(f"Kafka at {problem}; start it, or name another with --kafka")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The content of `endpoints.json`."""

    http: str
    kafka: str
    grpc: dict[str, str]
    write_key: str
    admin_token: str

    @classmethod
    def read(cls, data_dir: Path) -> "Endpoints":
        """Read the file that `clew up` writes.

        Raises:
            NotRunning: There is none, so nothing is up; the message says what to do.
        """
        path = Layout(data_dir).endpoints
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise NotRunning(f"nothing runs from {data_dir}: start `clew up`, or name another --data-dir") from error
        except OSError as error:
            raise NotRunning(f"{path} cannot be read: {error.strerror}; name another --data-dir") from error
        except (ValueError, TypeError) as error:
            raise NotRunning(f"{path} cannot be used: {error}; restart `clew up`") from error
