"""A pipeline over scripted services with a spool before it, as the gateway puts them together."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew.collector.v1.collector_service_pb2 import Verdict
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from gateway.batch import Submission
from gateway.decode import decode_request
from gateway.spool.deferral import State
from gateway.spool.forward import Forward
from gateway.spool.spool import Spool, SpoolBounds
from gateway.stats import Stats
from gateway.tap import Tap
from mesh.bus.memory import MemoryBus
from mesh.errors import ClewError, UpstreamUnavailable
from tests.gateway.scripted import SOURCE, Stage, running_stage, trace_of
from tests.mesh.rpc import eventually

ACCEPTED, DUPLICATED, REJECTED, FILTERED, DEFERRED = (
    Verdict.VERDICT_ACCEPTED,
    Verdict.VERDICT_DUPLICATE,
    Verdict.VERDICT_REJECTED,
    Verdict.VERDICT_FILTERED,
    Verdict.VERDICT_DEFERRED,
)
BOUNDS = SpoolBounds(64 << 20)
DOWN = UpstreamUnavailable("identity", "it is down")


@dataclass(slots=True)
class Door:
    """What requests go through."""

    stage: Stage
    forward: Forward
    stats: Stats

    async def send(self, *events: Any, proven: frozenset[int] = frozenset()) -> list[Verdict.ValueType]:
        """Send events in one request; what became of each."""
        made = request(*events, proven=proven)
        self.stats.begin(made)
        try:
            await self.forward.carrier.submit(made)
        except ClewError as error:
            made.error = error
            raise
        finally:
            # Also of a client that goes away, as the collector does it.
            self.stats.end(made)
        return [made.outcomes[index].verdict for index in range(made.count)]

    def counts(self) -> dict[str, Any]:
        """The stats, zeros left out."""
        return {name: value for name, value in self.stats.snapshot().items() if value and name != "by_source"}

    async def drained(self) -> None:
        """Wait until nothing waits any more and the way is open."""
        await eventually(lambda: self.forward.carrier.state is State.OPEN and not self.forward.spool.events, 30.0)


def track(message_id: str, **members: Any) -> dict[str, Any]:
    """One track call."""
    return {"type": "track", "event": "Seen", "messageId": message_id, "anonymousId": "a", **members}


def request(*events: Any, proven: frozenset[int] = frozenset()) -> Submission:
    """An admitted batch of events, received now."""
    body = json.dumps({"batch": events}).encode()
    received_ns = time.time_ns()
    return Submission(
        source=SOURCE,
        decoded=decode_request(body, None, received_ns),
        trace=trace_of(1, sampled=False),
        received_ns=received_ns,
        client_ip="203.0.113.7",
        deadline=time.monotonic() + 8.0,
        size=len(body),
        proven=proven,
    )


@asynccontextmanager
async def forwarding(
    stage: Stage, directory: Path, bounds: SpoolBounds = BOUNDS, *, patience: float = 1.0, start: bool = True
) -> AsyncIterator[Door]:
    """Put a spool before a pipeline; at the end what waits in it stays."""
    stats = Stats(stage.recorder.telemetry.meter)
    forward = Forward(
        await Spool.open(directory, bounds),
        stage.pipeline,
        stage.bus,
        lambda: stage.claims.settled,
        patience_seconds=patience,
        request_seconds=5.0,
        stats=stats,
        tap=Tap(),
    )
    if start:
        forward.start()
    try:
        yield Door(stage, forward, stats)
    finally:
        await forward.stop()
        await forward.close()


@asynccontextmanager
async def a_door(directory: Path, *, patience: float = 1.0, bounds: SpoolBounds = BOUNDS) -> AsyncIterator[Door]:
    """The same with services of its own; Kafka's client gives up after half a second."""
    bus = MemoryBus(delivery_timeout_seconds=0.5)
    async with running_stage(bus) as stage, forwarding(stage, directory, bounds, patience=patience) as door:
        yield door


def records(stage: Stage) -> list[EnrichedEvent]:
    """The events on the topic, oldest first."""
    return [EnrichedEvent.FromString(record.value[6:]) for record in stage.bus.read("clew.events.v1")]
