"""What clew is measured beside does its job, and is measured as it is."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from google.protobuf.json_format import Parse

from bench.brokers import EMBEDDED, Broker, running_brokers
from bench.load import basic
from bench.measure import Subject, Timing, measure
from bench.systems import SYSTEMS, System
from bench.timing import arrivals
from bench.traffic import Traffic
from bench.workloads import WORKLOADS
from clew.collector.v1.collector_service_pb2 import CollectEventsRequest
from clew.event.v1.event_pb2 import EVENT_TYPE_TRACK, Event
from tests.support.requirements import missing

_QUICK = Timing(seconds=1.5, warmup=0.3)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """An embedded broker."""
    with running_brokers([EMBEDDED], "") as brokers:
        yield brokers.of(EMBEDDED)


@pytest.fixture(scope="module")
def envoy(broker: Broker) -> Iterator[System]:
    """Envoy and the service behind it."""
    if SYSTEMS["envoy"].missing:
        missing(SYSTEMS["envoy"].missing)
    with SYSTEMS["envoy"].start("envoy", broker.bootstrap) as running:
        yield running


def _option(system: System, name: str) -> str:
    return system.load[system.load.index(name) + 1]


def _post(system: System, body: bytes, token: str) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{_option(system, '--url')}/v1/events", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_contracts_shape_says_what_the_libraries_say() -> None:
    """Every body is valid JSON of the rpc, with the same events: so both are asked for the same work."""
    told = json.loads(Traffic(3, 5, run=1).body())["batch"]
    request = Parse(Traffic(3, 5, run=1, shape="contract").body(), CollectEventsRequest())
    for event, said in zip(request.events, told, strict=True):
        assert (event.type, event.message_id, event.anonymous_id) == (
            EVENT_TYPE_TRACK, said["messageId"], said["anonymousId"],
        )  # fmt: skip
        assert json.loads(event.properties_json) == said["properties"]
        assert event.context.user_agent == said["context"]["userAgent"]
        assert event.context.page.url == said["context"]["page"]["url"]
        assert event.ip == said["context"]["ip"]


def test_envoy_answers_after_the_events_are_on_kafka(envoy: System, broker: Broker) -> None:
    """JSON in, a typed call behind, and each event on the topic once it is answered."""
    status, answer = _post(envoy, Traffic(2, 5, run=9, shape="contract").body(), _option(envoy, "--token"))
    assert status == 200, answer
    verdicts = json.loads(answer)["verdicts"]
    assert [verdict["verdict"] for verdict in verdicts] == ["VERDICT_ACCEPTED"] * 2
    found = {Event.FromString(value).message_id for value in _records(broker.bootstrap, "envoy.events.v1")}
    assert {verdict["messageId"] for verdict in verdicts} <= found


def _records(bootstrap: str, topic: str) -> list[bytes]:
    """All that is on a topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests", "enable.partition.eof": True})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        values: list[bytes] = []
        ended = 0
        while ended < len(partitions):
            message = consumer.poll(10)
            assert message is not None
            if message.error() is None:
                values.append(message.value() or b"")
            else:
                ended += 1
        return values
    finally:
        consumer.close()


@pytest.mark.parametrize("token", ["", "nonsense", "e30.e30.e30"])
def test_envoy_checks_the_token(envoy: System, token: str) -> None:
    """Without a token that its key set verifies nothing gets through."""
    assert _post(envoy, Traffic(0, 5, run=1, shape="contract").body(), token)[0] == 401


def test_a_system_is_measured(envoy: System, broker: Broker) -> None:
    """Throughput, latency, and CPU and memory of each process; the broker's stand beside them."""
    found = measure(Subject(envoy, EMBEDDED, broker.pid), WORKLOADS["batch-50"], _QUICK)
    assert found.errors == {}
    assert found.events_per_second == pytest.approx(found.requests * 50 / 1.5, rel=0.01)
    assert 0 < found.p50_ms <= found.p99_ms <= found.p999_ms
    assert found.cpu_us.keys() == found.pss_mib.keys() == {"envoy", "backend"}
    assert min(*found.cpu_us.values(), *found.pss_mib.values(), found.broker_cpu_us, found.generator_cpu_us) > 0


@pytest.mark.parametrize("name", ["http", "produce"])
def test_the_limits_are_measured(name: str, broker: Broker) -> None:
    """A bare edge, and a bare producer in closed and in open loop."""
    with SYSTEMS[name].start(name, broker.bootstrap) as system:
        closed = measure(Subject(system, EMBEDDED, broker.pid), WORKLOADS["single-64"], _QUICK)
        assert closed.errors == {}
        assert closed.events_per_second > 500
        opened = measure(Subject(system, EMBEDDED), WORKLOADS["single-64"], _QUICK, share=0.1, rate=100)
    assert opened.errors == {}
    assert 50 < opened.events_per_second < 200
    assert min(*closed.cpu_us.values(), *closed.pss_mib.values()) > 0


def test_clew_without_acknowledgements_is_clew_otherwise(broker: Broker) -> None:
    """Its gateway has another module; all processes are measured under the names that clew's have."""
    with SYSTEMS["clew-bare"].start("clew-bare", broker.bootstrap) as system:
        found = measure(Subject(system, EMBEDDED, broker.pid), WORKLOADS["single-64"], _QUICK)
        modules = Path(f"/proc/{system.pids['gateway']}/cmdline").read_text().split("\0")
    assert "bench.bare.gateway" in modules
    assert found.errors == {}
    assert found.cpu_us.keys() == {"identity", "consent", "enrich", "gateway"}


def test_a_load_that_fails_is_no_measurement() -> None:
    """It is an error, at once, and not a figure of zero."""
    with pytest.raises(RuntimeError, match="ended before its time"):
        measure(Subject(System("broken", ["-c", "raise SystemExit(3)"]), EMBEDDED), WORKLOADS["single-64"], _QUICK)


def test_arrivals_are_a_poisson_process() -> None:
    """Distances average to the rate and vary as much as they are long; the same seed gives the same moments."""
    moments = [moment for moment, _ in zip(arrivals(5.0, 100.0), range(20_000), strict=False)]
    distances = [later - earlier for earlier, later in pairwise([5.0, *moments])]
    mean = sum(distances) / len(distances)
    assert mean == pytest.approx(0.01, rel=0.05)
    assert sum((each - mean) ** 2 for each in distances) / len(distances) == pytest.approx(mean**2, rel=0.1)
    assert moments[:5] == [moment for moment, _ in zip(arrivals(5.0, 100.0), range(5), strict=False)]


def test_a_write_key_is_sent_as_a_user_without_a_password() -> None:
    """As client libraries do."""
    assert basic("key") == "Basic a2V5Og=="


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "nginx"], "clew"),
        (["--rounds", "0"], "--rounds"),
        (["--shares", "0"], "--shares"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_starts(options: list[str], said: str) -> None:
    """A wrong option ends the command with status 2 and says what would be right."""
    command = [sys.executable, "-m", "bench.run", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
