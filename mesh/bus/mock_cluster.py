"""librdkafka's mock broker, driven through the library that confluent-kafka ships.

The Python client can start the mock (`test.mock.num.brokers`) and do nothing else with it. The C functions create
topics with a wanted number of partitions and take brokers down and up, so the cluster is held through ctypes instead.
"""

import ctypes
import ctypes.util
from pathlib import Path
from typing import Self

import confluent_kafka

_PRODUCER = 0
_ERROR_TEXT_BYTES = 512


def _library_path() -> str:
    """The librdkafka that confluent-kafka itself is linked with: wheels carry it beside the package or inside it."""
    package = Path(confluent_kafka.__file__).parent
    for folder in (package.parent / "confluent_kafka.libs", package / ".dylibs"):
        for candidate in sorted(folder.glob("librdkafka[-.]*")):
            return str(candidate)
    return ctypes.util.find_library("rdkafka") or "librdkafka.so.1"


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(_library_path())
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_topic_set_error": (None, [pointer, text, number]),
        "rd_kafka_mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)],
        ),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
    }
    for name, (returns, takes) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library


class MockClusterError(RuntimeError):
    """librdkafka refused what was asked of its mock cluster."""


class MockCluster:
    """A Kafka cluster in this process's memory that other processes on this machine can connect to.

    It listens on loopback, on ports that it picks itself, keeps about 5 MB a partition (the oldest records go
    silently), forgets everything when it is closed and creates an unknown topic with 4 partitions. Its threads are
    librdkafka's own: Python's lock does not slow it down.
    """

    def __init__(self, brokers: int = 1) -> None:
        self._brokers = brokers
        self._library = _load()
        error = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        config = self._library.rd_kafka_conf_new()
        # The client that carries the cluster has no broker of its own and would warn about that.
        self._library.rd_kafka_conf_set(config, b"log_level", b"3", error, _ERROR_TEXT_BYTES)
        self._handle = self._library.rd_kafka_new(_PRODUCER, config, error, _ERROR_TEXT_BYTES)
        if not self._handle:
            raise MockClusterError(error.value.decode())
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        if not self._cluster:
            raise MockClusterError("the mock cluster did not start")

    @property
    def bootstrap(self) -> str:
        """The brokers' addresses, `HOST:PORT` with commas between them."""
        addresses: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return addresses.decode()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic with the wanted number of partitions, replicated on every broker.

        Raises:
            MockClusterError: The topic exists or the name is not allowed.

        """
        self._ask("rd_kafka_mock_topic_create", name.encode(), partitions, self._brokers)

    def fail_topic(self, name: str, error_code: int) -> None:
        """Answer everything about a topic with this Kafka error code; 0 ends it."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, name.encode(), error_code)

    def fail_requests(self, api_key: int, *error_codes: int) -> None:
        """Answer the next requests of one kind (Kafka's API key: 0 is Produce) with these error codes, in order."""
        codes = (ctypes.c_int * len(error_codes))(*error_codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, len(error_codes), codes)

    def stop_brokers(self) -> None:
        """Close every broker's connections and take no new ones; what is stored stays."""
        for broker in range(1, self._brokers + 1):
            self._ask("rd_kafka_mock_broker_set_down", broker)

    def start_brokers(self) -> None:
        """Take connections again, on the same ports."""
        for broker in range(1, self._brokers + 1):
            self._ask("rd_kafka_mock_broker_set_up", broker)

    def close(self) -> None:
        """End the cluster and forget all records; may be called twice."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._cluster = self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(self._cluster, *arguments)
        if code:
            raise MockClusterError(confluent_kafka.KafkaError(code).str())
