"""The typical service mesh that clew is compared with really does the job."""

import base64
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from bench.traffic import Traffic
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EVENT_TYPE_TRACK
from clew.options.v1.privacy_pb2 import PURPOSE_ESSENTIAL
from mesh.bus.embedded import start_embedded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """An embedded broker."""
    broker, bootstrap = start_embedded(["typical.events.v1:1"])
    yield bootstrap
    broker.terminate()
    broker.wait(15)
    if broker.stdout is not None:
        broker.stdout.close()


@pytest.fixture(scope="module")
def typical(kafka: str) -> Iterator[dict[str, Any]]:
    """The running mesh, as it announces itself."""
    command = [sys.executable, "-m", "bench.typical", "--kafka", kafka, "--write-key", "secret"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def post(url: str, path: str, body: bytes, key: str = "secret") -> Any:
    """Send a request as a client library would."""
    credentials = base64.b64encode(f"{key}:".encode()).decode()
    request = urllib.request.Request(f"{url}{path}", body, {"Authorization": f"Basic {credentials}"})
    with urllib.request.urlopen(request, timeout=15) as response:
        return json.load(response)


def consume(bootstrap: str, count: int) -> list[Any]:
    """Read that many records of the topic."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["typical.events.v1"])
    found: list[Any] = []
    for _ in range(60):
        found += [record for record in consumer.consume(count, timeout=0.5) if record.error() is None]
        if len(found) >= count:
            break
    consumer.close()
    return found


def test_events_arrive_enriched(typical: dict[str, Any], kafka: str) -> None:
    """One event and a batch come out of Kafka resolved, decided and enriched, each with its own trace."""
    single, batch = Traffic(0, 5, run=1), Traffic(3, 5, run=2)
    assert post(typical["http"], "/v1/track", single.body())["accepted"] == 1
    assert post(typical["http"], "/v1/batch", batch.body())["accepted"] == 3
    records = consume(kafka, 4)
    events = [EnrichedEvent.FromString(record.value()) for record in records]
    assert len({event.message_id for event in events}) == 4
    for event, record in zip(events, records, strict=True):
        assert event.type == EVENT_TYPE_TRACK
        assert record.key().decode() == event.profile_id
        assert list(event.consent.granted_purposes) == [PURPOSE_ESSENTIAL]
        assert event.enrichment.geo.country == "US"
        assert event.enrichment.client.browser
        assert json.loads(event.properties_json)["currency"] == "EUR"
        assert "traceparent" in dict(record.headers())


def test_a_wrong_key_is_refused(typical: dict[str, Any]) -> None:
    """It does check who sends."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(typical["http"], "/v1/track", b"{}", key="other")
    assert refused.value.code == 401
    refused.value.close()


def test_it_names_its_processes(typical: dict[str, Any]) -> None:
    """The benchmark measures the CPU time of each."""
    assert set(typical["pids"]) == {"identity", "consent", "enrich", "gateway"}
