"""The answer is lost after Kafka has acknowledged: the library sends again, and the event must stand there once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from mesh.ids import new_id
from tests.support.mesh import RunningMesh
from tests.support.proxy import Close, Cut, Exchange, Fault, Hang, running_proxy

_LIBRARIES: dict[str, Callable[..., Any]] = {"segment-python": SegmentClient, "rudder-python": RudderClient}
_FAULTS: dict[str, Fault] = {"closed": Close(), "hangs": Hang(), "cut": Cut(5)}
_EVENTS = 3
# How long a library waits for an answer that hangs; far more than the edge takes.
_PATIENCE_SECONDS = 3


@dataclass(frozen=True)
class Delivery:
    """What a library delivered, as it believes though an answer was lost, and what went through the proxy meanwhile."""

    sent: list[str]
    exchanges: list[Exchange]

    def verdicts(self) -> list[dict[str, str]]:
        """What the edge answered, request by request: the verdict of each message."""
        answers = (json.loads(exchange.body) for exchange in self.exchanges)
        return [{event["messageId"]: event["verdict"] for event in answer["events"]} for answer in answers]


@pytest.fixture(scope="module", params=product(_LIBRARIES, _FAULTS), ids="-".join)
def delivery(request: pytest.FixtureRequest, mesh: RunningMesh) -> Delivery:
    """A few events of one library, whose first answer is lost in one way."""
    library, fault = request.param
    failures: list[object] = []
    with running_proxy(mesh.endpoints.http) as proxy:
        proxy.next(_FAULTS[fault])
        client = _LIBRARIES[library](
            mesh.endpoints.write_key,
            host=proxy.url,
            timeout=_PATIENCE_SECONDS,
            on_error=lambda error, _batch: failures.append(error),
        )
        ids = [new_id() for _ in range(_EVENTS)]
        for message_id in ids:
            client.track(anonymous_id="lost-answer", event="E", message_id=message_id)
        client.shutdown()
        assert not failures
        return Delivery(ids, proxy.exchanges)


def test_the_library_sends_the_same_events_again(mesh: RunningMesh, delivery: Delivery) -> None:
    """What was accepted by the request whose answer was lost comes again under the same ids, and is on the topic."""
    first, *later = delivery.verdicts()
    assert delivery.exchanges[0].lost
    assert set(first.values()) == {"accepted"}
    assert first.keys() <= {message_id for verdicts in later for message_id in verdicts}
    mesh.events.wait(delivery.sent)


def test_an_event_that_is_sent_again_stands_there_once(mesh: RunningMesh, delivery: Delivery) -> None:
    """Each message has one record on the topic, however its first answer was lost."""
    found = mesh.events.wait(delivery.sent, quiet=1.0)
    assert [len(found[message_id]) for message_id in delivery.sent] == [1] * _EVENTS


def test_the_retry_is_told_that_it_is_a_duplicate(delivery: Delivery) -> None:
    """What was accepted by the request whose answer was lost is a duplicate in the one that repeats it."""
    first, *later = delivery.verdicts()
    assert {verdicts[message_id] for verdicts in later for message_id in first if message_id in verdicts} == {
        "duplicate"
    }
