"""What the Kafka bus tells librdkafka, and what it makes of librdkafka's answers."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from mesh.settings import check_range, setting

# The largest number that a property of librdkafka takes.
_MOST_INT: Final = 2_147_483_647
_MOST_CLOSE_SECONDS: Final = 600
# A broker that is down makes librdkafka log on every reconnect, once a second or faster.
_LOG_INTERVAL_SECONDS: Final = 30.0

# The record itself is what the broker refuses; every other error is the system's, and the record may pass later.
_RECORD_ERRORS: Final = frozenset(
    {
        KafkaError._INVALID_ARG,  # noqa: SLF001 - librdkafka's local error codes are public and begin with "_"
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.POLICY_VIOLATION,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.TOPIC_EXCEPTION,
    }
)
# The broker refuses the record, and not for its content: this machine's clock is far ahead of the broker's.
_CLOCK_ERRORS: Final = frozenset({KafkaError.INVALID_TIMESTAMP})


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How a process reaches Kafka and how much it lets wait."""

    bootstrap: str = setting("CLEW_KAFKA", help="Kafka's bootstrap addresses: HOST:PORT, with commas between several.")
    delivery_seconds: float = setting(
        "CLEW_KAFKA_DELIVERY_SECONDS",
        default=120.0,
        help="Seconds for which a record is sent again until Kafka acknowledges it. Clients are answered long before;"
        " what they send again meanwhile is no second record.",
    )
    queue_records: int = setting(
        "CLEW_KAFKA_QUEUE_RECORDS", default=100_000, help="Records that may wait for Kafka; more are refused."
    )
    queue_mib: int = setting(
        "CLEW_KAFKA_QUEUE_MIB", default=64, help="MiB of records that may wait for Kafka; more are refused."
    )
    close_seconds: float = setting(
        "CLEW_KAFKA_CLOSE_SECONDS", default=5.0, help="Seconds that a stopping process waits for acknowledgements."
    )
    properties_file: Path | None = setting(
        "CLEW_KAFKA_PROPERTIES_FILE",
        default=None,
        help="File of librdkafka properties, one NAME=VALUE a line: TLS, SASL and the like.",
    )

    def __post_init__(self) -> None:
        # Below a millisecond librdkafka would understand for ever; beyond 31 bits it understands nothing.
        check_range("CLEW_KAFKA_DELIVERY_SECONDS", self.delivery_seconds, 0.001, _MOST_INT // 1_000)
        check_range("CLEW_KAFKA_QUEUE_RECORDS", self.queue_records, 1, _MOST_INT)
        check_range("CLEW_KAFKA_QUEUE_MIB", self.queue_mib, 1, _MOST_INT // 1_024)
        check_range("CLEW_KAFKA_CLOSE_SECONDS", self.close_seconds, 0.001, _MOST_CLOSE_SECONDS)
        if self.properties_file is not None:
            _check_properties(self.properties_file)


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Properties for librdkafka: the file's, except for those that our promise rests on.

    Raises:
        OSError: The properties file cannot be read.
        ValueError: A line of it is no NAME=VALUE.
    """
    return {
        "client.id": "clew",
        "compression.type": "lz4",
        # Producers hand over whole batches: half a millisecond joins one batch's records into full requests. Measured:
        # 0 ms costs a third of the throughput of single records, 5 ms multiplies the latency by ten and gains nothing.
        "linger.ms": 0.5,
        "batch.size": 65536,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        # A broker that does not answer for so long is left, and whoever leads by then is asked. Measured with a leader
        # that is frozen for 12 s: p99 3 to 8 s with 3 s; 15 s, and refusals, with 5 s and with the 60 s of the default.
        "socket.timeout.ms": 3000,
        **(read_properties(settings.properties_file) if settings.properties_file else {}),
        "bootstrap.servers": settings.bootstrap,
        # The same partition for a key as Java's clients choose, so that topics can be joined, and as
        # `mesh.bus.partitioner` reckons.
        "partitioner": "murmur2_random",
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": int(settings.delivery_seconds * 1000),
        "queue.buffering.max.messages": settings.queue_records,
        "queue.buffering.max.kbytes": settings.queue_mib * 1024,
    }


# What of a properties file concerns every client; the rest is the producer's.
_CONNECTION: Final = ("security.", "sasl.", "ssl.", "socket.", "broker.address.", "client.dns.", "metadata.")


def connection_config(settings: KafkaSettings) -> dict[str, Any]:
    """Properties of any client: how to connect stands in the properties file.

    Raises:
        OSError: The properties file cannot be read.
        ValueError: A line of it is no NAME=VALUE.
    """
    properties = read_properties(settings.properties_file) if settings.properties_file else {}
    return {
        "client.id": "clew",
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        **{name: value for name, value in properties.items() if name.startswith(_CONNECTION)},
        "bootstrap.servers": settings.bootstrap,
    }


def consumer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Properties for a reader that belongs to no group.

    Raises:
        OSError: The properties file cannot be read.
        ValueError: A line of it is no NAME=VALUE.
    """
    return {
        **connection_config(settings),
        # Required by the client and never joined: partitions are assigned by hand, offsets are kept elsewhere.
        "group.id": "clew-tail",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # Retention may have taken what we want to begin with: then what is left is all there is.
        "auto.offset.reset": "earliest",
        "isolation.level": "read_uncommitted",
        "fetch.wait.max.ms": 50,
        "fetch.error.backoff.ms": 50,
    }


def read_properties(path: Path) -> dict[str, str]:
    """Read a properties file; empty lines and lines that begin with `#` are left out.

    Raises:
        OSError: It cannot be read.
        ValueError: A line is no NAME=VALUE.
    """
    properties: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            # The line may hold a secret: name its number only.
            raise ValueError(f"CLEW_KAFKA_PROPERTIES_FILE: line {number} is no NAME=VALUE")
        properties[name.strip()] = value.strip()
    return properties


def _check_properties(path: Path) -> None:
    """Refuse a file that librdkafka would refuse, before anything connects.

    Raises:
        ValueError: It cannot be read, or names a property or a value that there is not.
    """
    try:
        # A client that is told of no broker connects to none.
        Producer({**read_properties(path), "bootstrap.servers": ""}, logger=QuietLog())
    except OSError as error:
        raise ValueError(f"CLEW_KAFKA_PROPERTIES_FILE: {path}: {error.strerror}; name a file that exists") from error
    except KafkaException as error:
        raise ValueError(f"CLEW_KAFKA_PROPERTIES_FILE: {path}: {error.args[0].str()}; mend the file") from error


def is_retriable(error: KafkaError) -> bool:
    """Whether the same record may succeed later: true unless the record itself is what was refused."""
    return error.code() not in _RECORD_ERRORS


def is_certain(error: KafkaError) -> bool:
    """Whether the record is stored nowhere for sure: it was the record itself, or its time, that the broker refused."""
    return error.code() in _RECORD_ERRORS | _CLOCK_ERRORS


class QuietLog:
    """Takes librdkafka's log lines into ours, one of a kind per 30 s, with the number of those left out."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("mesh.bus.kafka")
        self._next_time: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def log(self, level: int, _layout: str, facility: str, _client: str, text: str) -> None:
        """What confluent-kafka calls for each line; the arguments are its own."""
        now = time.monotonic()
        if now < self._next_time.get(facility, 0.0):
            self._left_out[facility] = self._left_out.get(facility, 0) + 1
            return
        self._next_time[facility] = now + _LOG_INTERVAL_SECONDS
        left_out = self._left_out.pop(facility, 0)
        # A client that cannot connect says so as an error; the outage itself is reported once by the bus.
        self._log.log(min(level, logging.WARNING), "kafka client", facility=facility, detail=text, left_out=left_out)
