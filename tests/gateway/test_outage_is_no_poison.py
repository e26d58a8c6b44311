"""An outage is never filed as a poison message: what fails for want of a system is nobody's failed event."""

import json
from collections.abc import AsyncIterator, Callable

import pytest

from clew.event.v1.failed_event_pb2 import FailedEvent
from gateway.batch import Submission
from mesh.bus.port import Record
from mesh.errors import (
    BusUnavailable,
    Cancelled,
    ClewError,
    DeadlineExceeded,
    Draining,
    Internal,
    InvalidArgument,
    Overloaded,
    StorageUnavailable,
    Unimplemented,
    UpstreamUnavailable,
)
from tests.gateway.scripted import Stage, running_stage, submission

GOOD = {"type": "track", "event": "Bought", "anonymousId": "a", "messageId": "good"}
BAD = {"type": "nonsense", "anonymousId": "a", "messageId": "bad"}
FAILED = "clew.events.failed.v1"
OUTAGES: list[Callable[[], ClewError]] = [
    lambda: UpstreamUnavailable("x"),
    lambda: BusUnavailable("x"),
    lambda: StorageUnavailable("x"),
    lambda: DeadlineExceeded("x"),
    lambda: Overloaded("x"),
    Draining,
    lambda: Cancelled("x"),
    lambda: Internal("x"),
    lambda: Unimplemented("x"),
    lambda: InvalidArgument("x", field="items"),
]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A pipeline with services that can be told to fail."""
    async with running_stage() as running:
        yield running


def both() -> Submission:
    """A request with a good event and a bad one."""
    return submission(json.dumps({"batch": [GOOD, BAD]}).encode(), seconds=1.5)


def filed(stage: Stage) -> list[str]:
    """The message ids on the failed topic."""
    return [FailedEvent.FromString(record.value[6:]).message_id for record in stage.bus.read(FAILED)]


async def carry_fails(stage: Stage) -> None:
    """The whole request is refused: nothing is acknowledged, and no event has an outcome."""
    request = both()
    with pytest.raises(ClewError):
        await stage.pipeline.submit(request)


async def mended(stage: Stage) -> None:
    """Afterwards the same request is carried: the good event is published and the bad one filed, each once."""
    request = both()
    await stage.pipeline.submit(request)
    assert len(request.outcomes) == 2
    assert stage.published() == ["good"]
    assert filed(stage) == ["bad"]


@pytest.mark.parametrize("service", ["identity", "consent", "enrich"])
async def test_a_service_that_fails_files_nothing(stage: Stage, service: str) -> None:
    """Whatever it answers, a fault of its own or a refusal of the batch: not the good event, nor the bad one early."""
    script = stage.scripts()[service]
    for outage in OUTAGES:
        script.error = outage()
        await carry_fails(stage)
        assert stage.bus.topics() == [], script.error
    script.error = None
    await mended(stage)


@pytest.mark.parametrize("service", ["identity", "consent", "enrich"])
async def test_a_service_that_does_not_answer_files_nothing(stage: Stage, service: str) -> None:
    """The time is over: the client is told to send again."""
    script = stage.scripts()[service]
    script.gate.clear()
    await carry_fails(stage)
    assert stage.bus.topics() == []
    script.gate.set()
    await mended(stage)


@pytest.mark.parametrize("retriable", [True, False])
async def test_a_record_that_kafka_does_not_take_files_nothing(stage: Stage, *, retriable: bool) -> None:
    """Not even one that it never will: it is the event's own topic that refused it, and no rule of the edge."""

    def refuse(record: Record) -> str | None:
        return "no" if record.topic == "clew.events.v1" else None

    stage.bus.fail_when(refuse, retriable=retriable)
    request = submission(json.dumps({"batch": [GOOD]}).encode(), seconds=1.5)
    with pytest.raises(ClewError):
        await stage.pipeline.submit(request)
    assert filed(stage) == []
    stage.bus.fail_when(lambda _: None)
    await mended(stage)


async def test_a_broker_that_is_away_files_nothing(stage: Stage) -> None:
    """When it comes back, what it was handed before stands where it belongs: the good event is not among the failed."""
    stage.bus.stop()
    await carry_fails(stage)
    assert filed(stage) == []
    stage.bus.start()
    assert stage.published() == ["good"]
    assert filed(stage) == ["bad"]
