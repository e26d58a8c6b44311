"""One request for events: strangers cost nothing, every event gets its outcome, and the counts agree."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from opentelemetry.trace import Span

from clew.collector.v1.collector_service_pb2 import Verdict
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.identity.v1.identifier_pb2 import Assurance
from gateway.admission import Admission
from gateway.batch import Outcome
from gateway.collect import Arrival, Collector
from gateway.credentials import Credentials
from gateway.decode import decode_request
from gateway.decode.types import DecodedRequest
from gateway.errors import UnknownWriteKey
from gateway.limits.limiter import Limiter
from gateway.sources import Sources, hash_key
from gateway.stats import Stats
from mesh.deadline import deadline_scope
from mesh.errors import (
    BusUnavailable,
    ClewError,
    DeadlineExceeded,
    InvalidToken,
    MissingCredentials,
    StorageUnavailable,
)
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, Verifier
from tests.gateway.scripted import RECEIVED_NS, SOURCE, Stage, kept_submissions, running_stage
from tests.mesh.rpc import eventually

SIGNER = Signer(generate_private_key(SECP256R1()), "https://clew.test")
KEY = Credentials("k1")


@dataclass(slots=True)
class Door:
    """A collector over a scripted pipeline."""

    stage: Stage
    stats: Stats
    collector: Collector
    span: Span
    decoded: int = 0

    async def collect(self, body: object, credentials: Credentials = KEY) -> list[Outcome]:
        """Send a body through."""
        raw = json.dumps(body).encode()

        def decode() -> DecodedRequest:
            self.decoded += 1
            return decode_request(raw, None, RECEIVED_NS)

        arrival = Arrival(decode, credentials, self.span, RECEIVED_NS, client_ip="203.0.113.7", size=len(raw))
        return await self.collector.collect(arrival)

    def counts(self) -> dict[str, Any]:
        """What the counts say, zeros left out."""
        return {name: value for name, value in self.stats.snapshot().items() if value and name != "by_source"}


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A door with one source and one issuer."""
    async with running_stage() as stage:
        tokens = IssuerVerifiers([Verifier("https://clew.test", "clew", JwksSource.fixed(SIGNER.jwks()))])
        stats = Stats(stage.recorder.telemetry.meter)
        admission = Admission(Sources({hash_key("k1"): SOURCE}), tokens)
        collector = Collector(
            admission, Limiter(stage.recorder.telemetry.meter), stage.pipeline, stats, request_seconds=3.0
        )
        span = stage.recorder.telemetry.tracer.start_span("request")
        yield Door(stage, stats, collector, span)
        span.end()


def track(message_id: str, **members: Any) -> dict[str, Any]:
    """One track call."""
    return {"type": "track", "event": "Seen", "messageId": message_id, "anonymousId": "a", **members}


@pytest.mark.parametrize(
    ("credentials", "error"),
    [
        (Credentials("wrong"), UnknownWriteKey),
        (Credentials("k1", "nonsense"), InvalidToken),
        (Credentials("", "nonsense"), InvalidToken),
    ],
)
async def test_what_the_headers_show_is_checked_before_the_body_is_looked_at(
    door: Door, credentials: Credentials, error: type[ClewError]
) -> None:
    """A stranger costs no decoding, and nothing is counted."""
    with pytest.raises(error):
        await door.collect({"batch": [track("m-1")]}, credentials)
    assert door.decoded == 0
    assert door.counts() == {}


async def test_the_key_may_stand_in_the_body(door: Door) -> None:
    """Where no header has one: a wrong or missing one there is refused all the same."""
    (outcome,) = await door.collect({"batch": [track("m-1")], "writeKey": "k1"}, Credentials())
    assert outcome == Outcome("m-1", Verdict.VERDICT_ACCEPTED)
    with pytest.raises(UnknownWriteKey):
        await door.collect({"batch": [track("m-1")], "writeKey": "wrong"}, Credentials())
    with pytest.raises(MissingCredentials):
        await door.collect({"batch": [track("m-1")]}, Credentials())
    assert door.stage.published() == ["m-1"]


async def test_outcomes_stand_in_the_order_of_the_events(door: Door) -> None:
    """Accepted, rejected, duplicate, whatever stage decided it."""
    outcomes = await door.collect({"batch": [track("m-1"), 1, track("m-2"), {"type": "x"}, track("m-1")]})
    assert [outcome.message_id for outcome in outcomes] == ["m-1", "", "m-2", "", "m-1"]
    assert [outcome.verdict for outcome in outcomes] == [
        Verdict.VERDICT_ACCEPTED,
        Verdict.VERDICT_REJECTED,
        Verdict.VERDICT_ACCEPTED,
        Verdict.VERDICT_REJECTED,
        Verdict.VERDICT_DUPLICATE,
    ]
    assert door.counts() == {"received": 5, "accepted": 2, "rejected": 2, "duplicate": 1, "requests": 1}


async def test_an_empty_batch_asks_nobody(door: Door) -> None:
    """It is answered at once, and is no request for events."""
    assert await door.collect({"batch": []}) == []
    assert door.stage.identity.script.requests == []
    assert door.counts() == {}


async def test_a_bearer_token_reaches_the_record(door: Door) -> None:
    """What it proves is published as verified, its neighbour as asserted."""
    bearer = SIGNER.sign("u1", "clew", lifetime_seconds=60).token
    await door.collect({"batch": [track("m-1", userId="u1"), track("m-2", userId="u2")]}, Credentials("k1", bearer))
    events = [EnrichedEvent.FromString(record.value[6:]) for record in door.stage.bus.read("clew.events.v1")]
    assert {event.user_id: event.assurance for event in events} == {
        "u1": Assurance.ASSURANCE_VERIFIED,
        "u2": Assurance.ASSURANCE_ASSERTED,
    }


async def test_a_request_that_fails_is_unanswered(door: Door) -> None:
    """Its sender sends it again, and then it is counted as what became of it."""
    door.stage.consent.script.error = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await door.collect({"batch": [track("m-1"), track("m-2")]})
    assert door.counts() == {"received": 2, "unanswered": 2, "requests": 1}


async def test_a_request_is_answered_within_its_time(door: Door) -> None:
    """A service that hangs costs a 503 in time, for client libraries give up at ten seconds."""
    door.stage.enrich.script.gate.clear()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await door.collect({"batch": [track("m-1")]})
    assert time.monotonic() - began < 4.0
    assert door.counts() == {"received": 1, "unanswered": 1, "requests": 1}


async def test_one_callers_haste_does_not_cut_the_others_short(door: Door) -> None:
    """A caller with little time shares batches with patient ones; its deadline is not theirs."""
    script = door.stage.identity.script
    script.gate.clear()
    patient = asyncio.create_task(door.collect({"batch": [track("first")]}))
    await eventually(lambda: script.requests)
    with deadline_scope(0.8):
        hasty = asyncio.create_task(door.collect({"batch": [track("hasty")]}))
    second = asyncio.create_task(door.collect({"batch": [track("second")]}))
    await asyncio.sleep(0)
    script.gate.set()
    await asyncio.gather(patient, hasty, second)
    assert len(script.seconds_left) == 2
    assert script.seconds_left[1] > 1.5


async def test_a_client_that_went_away_is_counted_as_unanswered(door: Door) -> None:
    """Also when some of its events had been filtered already: no event is lost from the counts."""
    refusing = {"consent": {"categoryPreferences": {"Analytics": False}}}
    door.stage.enrich.script.gate.clear()
    task = asyncio.create_task(door.collect({"batch": [track("m-1"), track("m-2", context=refusing)]}))
    await eventually(lambda: door.stage.enrich.script.requests)
    assert door.counts()["in_flight"] == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert door.counts() == {"received": 2, "unanswered": 2, "requests": 1}


async def test_a_refused_request_leaves_nothing_behind(door: Door) -> None:
    """No error keeps its request alive: in an outage bodies would otherwise pile up until a garbage collection."""
    door.stage.consent.script.error = StorageUnavailable()
    gc.collect()
    others = kept_submissions()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await door.collect({"batch": [track("m-1")]})
        door.stage.consent.script.error = None
        door.stage.bus.fail_when(lambda _: "the broker is gone")
        with pytest.raises(BusUnavailable):
            await door.collect({"batch": [track("m-1")]})
        await door.stage.pipeline.drain()
        assert kept_submissions(others) == []
    finally:
        gc.enable()
