"""The live view's place in the data path: what is shown of each event, and that nobody is slowed by it."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.trace import Span

from clew.admin.v1.edge_debug_service_pb2 import EdgeEvent, Stage, StageStatus
from clew.collector.v1.collector_service_pb2 import Verdict
from gateway import tap as module
from gateway.admin.view import edge_event
from gateway.admission import Admission
from gateway.collect import Arrival, Collector
from gateway.credentials import Credentials
from gateway.decode import decode_request
from gateway.limits.limiter import Limiter
from gateway.pipeline import Pipeline
from gateway.sources import Sources, hash_key
from gateway.stats import Stats
from gateway.tap import Tap, Wanted, Watcher
from mesh.errors import ClewError, Draining, Overloaded, StorageUnavailable
from mesh.jwt import IssuerVerifiers
from tests.gateway.scripted import RECEIVED_NS, SOURCE, kept_submissions, running_stage
from tests.gateway.scripted import Stage as Stages
from tests.mesh.rpc import eventually

SECRET = "s3cret@example.com"


@dataclass(slots=True)
class Door:
    """A collector and a pipeline with a tap."""

    stage: Stages
    tap: Tap
    collector: Collector
    span: Span

    async def send(self, *events: Any, key: str = "k1", body: bytes | None = None) -> None:
        """Send events; whether they are refused is not looked at."""
        raw = json.dumps({"batch": events}).encode() if body is None else body
        try:
            arrival = Arrival(
                lambda: decode_request(raw, None, RECEIVED_NS),
                Credentials(key),
                self.span,
                RECEIVED_NS,
                client_ip="203.0.113.7",
                size=len(raw),
            )
            await self.collector.collect(arrival)
        except ClewError:
            return


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A door with one source."""
    async with running_stage() as stage:
        tap, telemetry = Tap(), stage.recorder.telemetry
        pipeline = Pipeline(
            stage.upstreams, stage.claims, stage.aliases, stage.pipeline._encoder, telemetry.tracer, tap=tap
        )
        admission = Admission(Sources({hash_key("k1"): SOURCE}), IssuerVerifiers([]))
        collector = Collector(
            admission, Limiter(telemetry.meter), pipeline, Stats(telemetry.meter), request_seconds=3.0, tap=tap
        )
        span = telemetry.tracer.start_span("request")
        yield Door(stage, tap, collector, span)
        span.end()


def track(message_id: str, **members: Any) -> dict[str, Any]:
    """One track call."""
    return {"type": "track", "event": "Seen", "messageId": message_id, "anonymousId": "a-1", **members}


async def shown(watcher: Watcher, count: int = 1) -> list[EdgeEvent]:
    """The next events; none was lost."""
    events = []
    for _ in range(count):
        seen, lost = await asyncio.wait_for(watcher.read(), 5)
        assert seen is not None
        assert lost == 0
        events.append(edge_event(seen))
    return events


def stages(event: EdgeEvent) -> list[tuple[str, str, str]]:
    """Stage, status and reason of each stage that was reached."""
    return [
        (
            Stage.Name(verdict.stage).removeprefix("STAGE_"),
            StageStatus.Name(verdict.status).removeprefix("STAGE_STATUS_"),
            verdict.reason,
        )
        for verdict in event.stages
    ]


def passed(*names: str) -> list[tuple[str, str, str]]:
    """Stages that let the event go on."""
    return [(name, "PASSED", "") for name in names]


async def test_an_accepted_event_passed_every_stage(door: Door) -> None:
    """With its verdict, its source, and the trace that its record continues."""
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"))
        (event,) = await shown(watcher)
    assert stages(event) == passed("ADMIT", "DECODE", "RESOLVE", "DECIDE", "ENRICH", "PUBLISH")
    assert (event.message_id, event.verdict) == ("m-1", Verdict.VERDICT_ACCEPTED)
    assert (event.workspace, event.source) == ("shop", "web")
    assert event.trace_id == f"{door.span.get_span_context().trace_id:032x}"
    assert event.receive_time.ToNanoseconds() == RECEIVED_NS


async def test_what_is_shown_of_an_event_is_redacted(door: Door) -> None:
    """Random ids and facts about the machinery, what the stages found out among them; of the rest the category only."""
    event = track(
        "m-1", userId=SECRET, properties={"mail": SECRET}, context={"userAgent": SECRET, "page": {"url": SECRET}}
    )
    with door.tap.watching(Wanted()) as watcher:
        await door.send(event)
        (seen,) = await shown(watcher)
    view = json.loads(seen.event_json)
    assert view["message_id"] == "m-1"
    assert view["anonymous_id"] == "a-1"
    assert view["user_id"] == "[direct_id]"
    assert view["event"] == "[behavior]"
    assert view["properties_json"] == "[content]"
    assert view["assurance"] == "ASSURANCE_ASSERTED"
    assert view["consent"]["epoch"] == "[consent]"
    assert view["enrichment"]["client"]["browser"] == "[device]"
    # The scripted identity names a profile after its user; a real one is a random id, and shown.
    assert view.pop("profile_id") == f"p-{SECRET}"
    assert SECRET not in str(view)


async def test_every_event_of_a_request_is_shown_with_what_stopped_it(door: Door) -> None:
    """In their order: rejected and duplicate ones end at decode, filtered ones at decide."""
    refusing = {"consent": {"categoryPreferences": {"Analytics": False}}}
    with door.tap.watching(Wanted()) as watcher:
        await door.send(
            track("m-1"), {"type": "shrug", "messageId": "m-2"}, track("m-3", context=refusing), track("m-1")
        )
        accepted, rejected, filtered, duplicate = await shown(watcher, 4)
    assert stages(accepted)[-1] == ("PUBLISH", "PASSED", "")
    assert stages(rejected) == [*passed("ADMIT"), ("DECODE", "STOPPED", "FAILURE_REASON_UNKNOWN_TYPE")]
    assert rejected.stages[-1].detail
    assert json.loads(rejected.event_json)["reason"] == "FAILURE_REASON_UNKNOWN_TYPE"
    expected = [*passed("ADMIT", "DECODE", "RESOLVE"), ("DECIDE", "STOPPED", "FILTER_REASON_CONSENT")]
    assert stages(filtered) == expected
    assert stages(duplicate) == [*passed("ADMIT"), ("DECODE", "STOPPED", "FAILURE_REASON_DUPLICATE_MESSAGE_ID")]
    assert [event.verdict for event in (accepted, rejected, filtered, duplicate)] == [
        Verdict.VERDICT_ACCEPTED,
        Verdict.VERDICT_REJECTED,
        Verdict.VERDICT_FILTERED,
        Verdict.VERDICT_DUPLICATE,
    ]


@pytest.mark.parametrize(
    ("service", "reached"),
    [
        ("identity", ["ADMIT", "DECODE"]),
        ("consent", ["ADMIT", "DECODE", "RESOLVE"]),
        ("enrich", ["ADMIT", "DECODE", "RESOLVE", "DECIDE"]),
    ],
)
async def test_a_request_that_fails_says_at_which_stage(door: Door, service: str, reached: list[str]) -> None:
    """And why; its events have no verdict, for their sender sends them again."""
    door.stage.scripts()[service].error = StorageUnavailable()
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"))
        (event,) = await shown(watcher)
    *before, (stage, status, reason) = stages(event)
    assert before == passed(*reached)
    assert (stage, status, reason) == (
        {"identity": "RESOLVE", "consent": "DECIDE", "enrich": "ENRICH"}[service],
        "FAILED",
        "ERROR_REASON_STORAGE_UNAVAILABLE",
    )
    assert event.verdict == Verdict.VERDICT_UNSPECIFIED


async def test_what_kafka_does_not_take_failed_there(door: Door) -> None:
    """Also what had its verdict before: it was not kept, or not told."""
    door.stage.bus.fail_when(lambda _: "the broker is gone")
    refusing = {"consent": {"categoryPreferences": {"Analytics": False}}}
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"), {"type": "shrug"}, track("m-3", context=refusing))
        good, rejected, filtered = await shown(watcher, 3)
    failed = ("PUBLISH", "FAILED", "ERROR_REASON_BUS_UNAVAILABLE")
    assert stages(good) == [*passed("ADMIT", "DECODE", "RESOLVE", "DECIDE", "ENRICH"), failed]
    assert [stage for stage, _, _ in stages(rejected)] == ["ADMIT", "DECODE", "PUBLISH"]
    assert [stage for stage, _, _ in stages(filtered)] == ["ADMIT", "DECODE", "RESOLVE", "DECIDE", "PUBLISH"]
    assert stages(rejected)[-1] == stages(filtered)[-1] == failed
    assert {event.verdict for event in (good, rejected, filtered)} == {Verdict.VERDICT_UNSPECIFIED}


async def test_a_sender_that_went_away_is_said_to_have(door: Door) -> None:
    """At the stage that its events had reached."""
    door.stage.enrich.script.gate.clear()
    with door.tap.watching(Wanted()) as watcher:
        task = asyncio.create_task(door.send(track("m-1")))
        await eventually(lambda: door.stage.enrich.script.requests)
        task.cancel()
        (event,) = await shown(watcher)
    assert stages(event)[-1] == ("ENRICH", "FAILED", "ERROR_REASON_CANCELLED")


async def test_a_refused_request_is_shown_too(door: Door) -> None:
    """Its events are not known; neither is the source of a wrong key, and the key is not shown."""
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"), key="wrong-key")
        await door.send(body=b"no json")
        stranger, unreadable = await shown(watcher, 2)
    assert stages(stranger) == [("ADMIT", "FAILED", "ERROR_REASON_UNKNOWN_WRITE_KEY")]
    assert (stranger.source, stranger.message_id, stranger.event_json) == ("", "", "")
    assert "wrong-key" not in str(stranger)
    assert stages(unreadable) == [*passed("ADMIT"), ("DECODE", "FAILED", "ERROR_REASON_UNREADABLE_BODY")]
    assert unreadable.source == "web"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), ["m-1", "m-2", "m-3", ""]),
        (Wanted(workspace="shop", source="web"), ["m-1", "m-2", "m-3"]),
        (Wanted(source="app"), []),
        (Wanted(workspace="other"), []),
        (Wanted(message_id="m-2"), ["m-2"]),
        (Wanted(user_id="u-1"), ["m-1"]),
        (Wanted(verdicts={Verdict.VERDICT_REJECTED}), ["m-3"]),
        (Wanted(verdicts={Verdict.VERDICT_ACCEPTED, Verdict.VERDICT_UNSPECIFIED}), ["m-1", "m-2", ""]),
    ],
)
async def test_a_watcher_gets_what_it_asks_for(door: Door, wanted: Wanted, expected: list[str]) -> None:
    """By source, message id, user id and verdict; one that asks for another's events gets none."""
    with door.tap.watching(wanted) as watcher:
        await door.send(track("m-1", userId="u-1"), track("m-2", userId="u-2"), {"type": "x", "messageId": "m-3"})
        await door.send(key="wrong")
        assert [event.message_id for event in await shown(watcher, len(expected))] == expected
        assert not watcher._waiting


async def test_a_slow_watcher_loses_events_and_is_told_how_many(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The edge does not wait for it: everything is answered, and what does not fit is counted."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    with door.tap.watching(Wanted()) as watcher:
        await door.send(*(track(f"m-{number}") for number in range(10)))
        first, lost = await watcher.read()
        assert first is not None
        assert lost == 7
        assert [event.message_id for event in await shown(watcher, 2)] == ["m-1", "m-2"]
    assert len(door.stage.published()) == 10


async def test_a_loss_is_told_although_no_event_follows(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher whose share of a second is used up learns what it missed when the traffic has stopped."""
    monkeypatch.setattr(module, "EVENTS_PER_SECOND", 0)
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"), track("m-2"))
        assert await watcher.read() == (None, 2)


async def test_watchers_share_what_is_shown(door: Door) -> None:
    """So that the cost of showing is bounded, however many watch; and only so many may."""
    with door.tap.watching(Wanted()):
        assert door.tap.share == module.EVENTS_PER_SECOND
        with door.tap.watching(Wanted()):
            assert door.tap.share == module.EVENTS_PER_SECOND // 2
    contexts = [door.tap.watching(Wanted()) for _ in range(module.MAX_WATCHERS + 1)]
    for context in contexts[:-1]:
        context.__enter__()
    with pytest.raises(Overloaded):
        contexts[-1].__enter__()
    for context in contexts[:-1]:
        context.__exit__(None, None, None)


async def test_while_nobody_watches_nothing_is_noted(door: Door) -> None:
    """Neither before anybody did nor after the last has gone."""
    noted: list[object] = []
    for name in ("begin", "resolved", "decided", "enriched", "end", "refused"):
        setattr(door.tap, name, lambda *_: noted.append(1))
    await door.send(track("m-1"))
    with door.tap.watching(Wanted()):
        assert door.tap.open
    assert not door.tap.open
    await door.send(track("m-2"))
    await door.send(key="wrong")
    assert noted == []


async def test_a_request_that_began_before_the_watch_is_not_half_shown(door: Door) -> None:
    """What its first stages found out was not noted: it is left out."""
    script = door.stage.enrich.script
    script.gate.clear()
    early = asyncio.create_task(door.send(track("early")))
    await eventually(lambda: script.requests)
    with door.tap.watching(Wanted()) as watcher:
        script.gate.set()
        await early
        await door.send(track("late"))
        assert [event.message_id for event in await shown(watcher)] == ["late"]


async def test_what_waits_keeps_no_request_in_memory(door: Door) -> None:
    """A watcher that does not read holds events, and neither their requests nor the bodies of refused ones."""
    gc.collect()
    others = kept_submissions()
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"), {"type": "shrug", "properties": {"padding": "x" * 5_000}})
        door.stage.bus.fail_when(lambda _: "the broker is gone")
        await door.send(track("m-2"))
        gc.collect()
        assert kept_submissions(others) == []
        events = [seen.event for seen in watcher._waiting]
        assert len(events) == 3
        assert [getattr(event, "payload", b"") for event in events] == [b"", b"", b""]


async def test_watching_ends_when_the_gateway_stops(door: Door) -> None:
    """What waits is read first; then, and for whoever comes later, it is over."""
    with door.tap.watching(Wanted()) as watcher:
        await door.send(track("m-1"))
        waiting = asyncio.create_task(watcher.read())
        door.tap.close()
        assert (await waiting)[0] is not None
        with pytest.raises(Draining):
            await watcher.read()
    with pytest.raises(Draining), door.tap.watching(Wanted()):
        pass
