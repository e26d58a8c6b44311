"""What the Kafka bus does beyond the contract: fatal errors, properties, quiet logs, callbacks that raise."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from structlog.testing import capture_logs

from mesh.bus.embedded import start_embedded
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings, QuietLog, is_certain, is_retriable, producer_config, read_properties
from mesh.bus.mock_cluster import MockCluster, MockClusterError
from mesh.bus.port import Record
from mesh.errors import BusUnavailable
from mesh.settings import SettingsError, read_settings
from tests.mesh.bus.brokers import read_topic
from tests.mesh.rpc import eventually

PRODUCE = 0


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """A mock cluster of its own."""
    with MockCluster() as mock:
        yield mock


@asynccontextmanager
async def bus_on(cluster: MockCluster, **limits: Any) -> AsyncIterator[KafkaBus]:
    """A bus on the cluster, closed at the end."""
    bus = KafkaBus(KafkaSettings(cluster.bootstrap, close_seconds=1.0, **limits))
    try:
        yield bus
    finally:
        await bus.close()


async def test_a_fatal_error_replaces_the_producer(cluster: MockCluster) -> None:
    """Where the broker lost the sequence, librdkafka's producer is spent for good; the bus goes on with a new one."""
    async with bus_on(cluster) as bus:
        assert await bus.produce([Record("t", b"k", b"before")]) == []
        cluster.fail_requests(PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)

        failures = await bus.produce([Record("t", b"k", b"lost")])
        retried = await bus.produce([Record("t", b"k", b"after")])

    assert [failure.retriable for failure in failures] == [True]
    assert retried == []
    assert [record.value for record in read_topic(cluster.bootstrap, "t", 2)] == [b"before", b"after"]


async def test_a_refused_topic_is_the_systems_failure_not_the_records(cluster: MockCluster) -> None:
    """A topic that may not be written fails its records retriably and leaves other topics alone."""
    cluster.fail_topic("closed", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    async with bus_on(cluster, delivery_seconds=2.0) as bus:
        failures = await bus.produce([Record("open", b"k", b"1"), Record("closed", b"k", b"2")])

    assert [(failure.index, failure.retriable) for failure in failures] == [(1, True)]


async def test_only_a_record_that_is_wrong_itself_is_not_retriable() -> None:
    """Outages, full queues and missing rights pass; a record that is too large never does."""
    passing = (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError.NOT_ENOUGH_REPLICAS)
    assert all(is_retriable(KafkaError(code)) for code in passing)
    assert not is_retriable(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))


async def test_a_clock_that_is_wrong_is_no_fault_of_the_record() -> None:
    """Kafka refuses a record from the future: it is stored nowhere, and passes once the clock is right."""
    refused = KafkaError(KafkaError.INVALID_TIMESTAMP)
    assert is_certain(refused)
    assert is_retriable(refused)


async def test_a_callback_that_raises_does_not_end_the_acknowledgements(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll thread survives; later batches resolve."""
    loop, raised = asyncio.get_running_loop(), asyncio.Event()

    def broken(*_: object) -> None:
        loop.call_soon_threadsafe(raised.set)
        raise RuntimeError("broken callback")

    async with bus_on(cluster) as bus:
        with capture_logs() as logs:
            monkeypatch.setattr("mesh.bus.kafka._Batch.report", broken)
            lost = bus.produce([Record("t", b"k", b"1")])
            await raised.wait()
            monkeypatch.undo()
            assert await bus.produce([Record("t", b"k", b"2")]) == []

    assert [entry["event"] for entry in logs] == ["kafka callback failed"]
    assert [failure.index for failure in lost.result()] == [0]


async def test_one_outage_is_two_log_lines(cluster: MockCluster) -> None:
    """Unreachable once and back once from the bus, whatever librdkafka tells on each reconnect."""
    async with bus_on(cluster) as bus:
        assert await bus.produce([Record("t", b"k", b"1")]) == []
        with capture_logs() as logs:
            cluster.stop_brokers()
            waiting = bus.produce([Record("t", b"k", b"2")])
            await asyncio.sleep(2.5)
            cluster.start_brokers()
            assert await waiting == []
            await asyncio.sleep(0.2)

    ours = [entry["event"] for entry in logs if entry["event"] != "kafka client"]
    assert ours == ["kafka unreachable", "kafka acknowledges again"]
    facilities = [entry["facility"] for entry in logs if entry["event"] == "kafka client"]
    assert len(facilities) == len(set(facilities))


def test_a_kind_of_line_is_logged_once_with_the_number_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 30 s one line of a facility; the next one tells how many were dropped; errors become warnings."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    quiet = QuietLog()
    with capture_logs() as logs:
        for second in (0.0, 1.0, 2.0, 31.0):
            now[0] = second
            quiet.log(logging.ERROR, "%s", "FAIL", "client", f"at {second}")

    assert [(entry["detail"], entry["left_out"], entry["log_level"]) for entry in logs] == [
        ("at 0.0", 0, "warning"),
        ("at 31.0", 2, "warning"),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "no.such.property=1",
            r'kafka\.properties: No such configuration property: "no\.such\.property"; mend the file',
        ),
        ("security.protocol=tls", r"kafka\.properties: .*security\.protocol.*; mend the file"),
        (None, r"kafka\.properties: No such file or directory; name a file that exists"),
    ],
)
def test_a_properties_file_of_no_use_is_refused_with_the_settings(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    """A typing error does not wait for the first event, nor for Kafka; it is told as every bad setting is."""
    file = tmp_path / "kafka.properties"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=f"CLEW_KAFKA_PROPERTIES_FILE: .*{problem}"):
        read_settings(KafkaSettings, {"CLEW_KAFKA": "h:1", "CLEW_KAFKA_PROPERTIES_FILE": str(file)})


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("CLEW_KAFKA_DELIVERY_SECONDS", ("0", "-1", "0.0000001", "1e9")),
        ("CLEW_KAFKA_QUEUE_RECORDS", ("0", "99999999999999999999")),
        ("CLEW_KAFKA_QUEUE_MIB", ("0", "99999999999999999999")),
        ("CLEW_KAFKA_CLOSE_SECONDS", ("0", "1e15")),
    ],
)
def test_numbers_that_librdkafka_cannot_hold_are_named(variable: str, values: tuple[str, ...]) -> None:
    """Each is refused by its variable's name; what just passes, librdkafka takes."""
    for value in values:
        with pytest.raises(SettingsError, match=f"{variable}: .* is not from (.*) to (.*)") as refused:
            read_settings(KafkaSettings, {"CLEW_KAFKA": "127.0.0.1:1", variable: value})
        for extreme in str(refused.value).split(" from ")[1].split(" to "):
            settings = read_settings(KafkaSettings, {"CLEW_KAFKA": "127.0.0.1:1", variable: extreme})
            Producer(producer_config(settings))


def test_properties_add_and_override_but_not_what_the_promise_rests_on(tmp_path: Path) -> None:
    """Comments and blank lines are left out, values may hold `=`; durability stays ours."""
    file = tmp_path / "kafka.properties"
    sasl = "security.protocol = SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=u\nsasl.password=a=b,c\n"
    file.write_text(f"# TLS\n\n{sasl}linger.ms=7\nacks=0\n")

    config = producer_config(KafkaSettings("host:1", properties_file=file))

    assert config["security.protocol"] == "SASL_SSL"
    assert config["sasl.password"] == "a=b,c"
    assert config["linger.ms"] == "7"
    assert config["acks"] == "all"


def test_a_broken_properties_line_is_named_by_its_number_only(tmp_path: Path) -> None:
    """The line may be a secret."""
    file = tmp_path / "kafka.properties"
    file.write_text("a=1\nhunter2\n")

    with pytest.raises(ValueError, match="line 2 is no NAME=VALUE") as caught:
        read_properties(file)
    assert "hunter2" not in str(caught.value)


def test_the_address_is_required() -> None:
    """A missing bootstrap address is a settings error."""
    with pytest.raises(SettingsError, match="CLEW_KAFKA: is required"):
        read_settings(KafkaSettings, {})


def test_the_mock_cluster_says_what_it_refuses(cluster: MockCluster) -> None:
    """A topic cannot be created twice; a closed cluster may be closed again."""
    cluster.create_topic("t", 6)
    with pytest.raises(MockClusterError, match="already exists"):
        cluster.create_topic("t", 6)
    cluster.close()


async def test_a_broker_that_was_never_there_fails_batches_in_time(cluster: MockCluster) -> None:
    """A process that starts before its broker answers in time all the same, and works once the broker is there."""
    cluster.stop_brokers()
    async with bus_on(cluster, delivery_seconds=1.0) as bus:
        async with asyncio.timeout(4):
            failures = await bus.produce([Record("t", b"k", b"1")])
        with pytest.raises(BusUnavailable):
            await bus.check()
        cluster.start_brokers()
        await bus.check()

    assert [failure.retriable for failure in failures] == [True]


def stands_still(pid: int) -> bool:
    """Whether a stop signal has reached all threads of a process, which takes a moment on a busy machine."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


async def test_a_broker_that_hangs_fails_batches_in_time() -> None:
    """A broker that takes connections and never answers is an outage too, for records that it holds already as well."""
    process, bootstrap = start_embedded()
    bus = KafkaBus(KafkaSettings(bootstrap, delivery_seconds=2.0, close_seconds=0.5))
    try:
        assert await bus.produce([Record("t", b"k", b"1")]) == []
        process.send_signal(signal.SIGSTOP)
        await eventually(lambda: stands_still(process.pid))
        async with asyncio.timeout(6):
            failures = await bus.produce([Record("t", b"k", b"2")])
    finally:
        process.send_signal(signal.SIGCONT)
        await bus.close()
        process.terminate()
        process.wait(10)

    assert [failure.retriable for failure in failures] == [True]
