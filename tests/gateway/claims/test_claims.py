"""Exactly once on the topic, through the whole pipeline, on each store: retries, copies, failures, crashes."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clew.collector.v1.collector_service_pb2 import FilterReason, Verdict
from clew.event.v1.failed_event_pb2 import FailureReason
from gateway.batch import Submission
from gateway.claims.claims import Claims
from gateway.claims.port import LedgerQuery
from gateway.ledger.tally import DUPLICATE, PUBLISHED, RECEIVED, filtered, rejected
from mesh.bus.memory import MemoryBus
from mesh.errors import BusUnavailable, ClewError, StorageUnavailable
from tests.gateway.claims.stores import Clock, Shelf
from tests.gateway.scripted import SOURCE, Stage, running_stage, submission
from tests.mesh.rpc import eventually

ACCEPTED, COPY = Verdict.VERDICT_ACCEPTED, Verdict.VERDICT_DUPLICATE
REFUSED, FILTERED = Verdict.VERDICT_REJECTED, Verdict.VERDICT_FILTERED
BAD_TYPE = rejected(FailureReason.FAILURE_REASON_UNKNOWN_TYPE)
NO_CONSENT = filtered(FilterReason.FILTER_REASON_CONSENT)


_NANOSECONDS = itertools.count(1)


def track(message_id: str, **members: Any) -> dict[str, Any]:
    """One track call."""
    return {"type": "track", "event": "Seen", "messageId": message_id, "anonymousId": "a", **members}


def request(*events: Any, seconds: float = 8.0) -> Submission:
    """An admitted batch of events, received a nanosecond after the one before it."""
    carried = submission(json.dumps({"batch": events}).encode(), seconds=seconds)
    carried.received_ns += next(_NANOSECONDS)
    return carried


async def send(stage: Stage, *events: Any) -> list[Verdict.ValueType]:
    """Send events in one request; what became of each."""
    carried = request(*events)
    await stage.pipeline.submit(carried)
    return [carried.outcomes[index].verdict for index in range(carried.count)]


async def refused(stage: Stage, *events: Any) -> ClewError:
    """Send events that are not acknowledged; why."""
    with pytest.raises(ClewError) as caught:
        await send(stage, *events)
    return caught.value


async def ledger(stage: Stage) -> dict[int, int]:
    """The source's counts by outcome, once everything is written."""
    await stage.claims.journal.kept()
    cells = await stage.claims.store.ledger(LedgerQuery(SOURCE.workspace, SOURCE.name, 0, 1 << 40, per_minute=False))
    return {cell.outcome: count for cell, count in cells.items()}


def balanced(counts: dict[int, int]) -> bool:
    """Whether every event that was received has one outcome."""
    return counts.get(RECEIVED, 0) == sum(count for outcome, count in counts.items() if outcome != RECEIVED)


@pytest.fixture
async def stage(shelf: Shelf, clock: Clock) -> AsyncIterator[Stage]:
    """A gateway that works."""
    async with running_stage(store=await shelf.open(clock)) as running:
        yield running


@asynccontextmanager
async def a_run(shelf: Shelf, clock: Clock, bus: MemoryBus) -> AsyncIterator[Stage]:
    """A gateway that crashes at the end: what it has not written down by then it never does."""
    async with running_stage(bus, await shelf.open(clock)) as running:
        yield running
        running.claims.journal._stopped = True
        await shelf.crash(running.claims.store)


def forgetful(stage: Stage) -> None:
    """Let the gateway crash before it writes anything down from now on."""
    stage.claims.journal._stopped = True


async def test_a_retry_is_a_duplicate_and_not_published_again(stage: Stage) -> None:
    """The same message id of the same source, however often; others of the request are not touched."""
    assert await send(stage, track("m-1")) == [ACCEPTED]
    assert await send(stage, track("m-2"), track("m-1")) == [ACCEPTED, COPY]
    await stage.claims.journal.kept()
    assert await send(stage, track("m-1"), track("m-2")) == [COPY, COPY]
    assert stage.published() == ["m-1", "m-2"]
    assert await ledger(stage) == {RECEIVED: 5, PUBLISHED: 2, DUPLICATE: 3}


async def test_copies_in_one_batch_are_one_message(stage: Stage) -> None:
    """Two requests that travel together: the second learns what became of the first one's event."""
    carried = [request(track("m-1"), track("m-2")), request(track("m-1"))]
    await asyncio.gather(*(stage.pipeline.submit(each) for each in carried))
    assert [carried[0].outcomes[0].verdict, carried[1].outcomes[0].verdict] == [ACCEPTED, COPY]
    assert sorted(stage.published()) == ["m-1", "m-2"]
    assert await ledger(stage) == {RECEIVED: 3, PUBLISHED: 2, DUPLICATE: 1}


async def test_a_copy_waits_for_the_one_that_is_under_way(stage: Stage) -> None:
    """Its answer comes when the first one's outcome is known, and not before."""
    stage.bus.stop()
    first, second = (asyncio.create_task(send(stage, track("m-1"))) for _ in range(2))
    await eventually(lambda: stage.bus.in_flight)
    third = asyncio.create_task(send(stage, track("m-1"), track("m-2")))
    await eventually(lambda: stage.bus.in_flight == 2)
    assert [task.done() for task in (first, second, third)] == [False] * 3
    stage.bus.start()
    assert [await task for task in (first, second, third)] == [[ACCEPTED], [COPY], [COPY, ACCEPTED]]
    assert sorted(stage.published()) == ["m-1", "m-2"]


async def test_a_copy_takes_over_where_the_first_one_failed(stage: Stage) -> None:
    """The first one's service failed before anything was published: the second is published in its place."""
    stage.consent.script.gate.clear()
    first = asyncio.create_task(send(stage, track("m-1")))
    await eventually(lambda: stage.consent.script.requests)
    stage.consent.script.error = StorageUnavailable()
    second = asyncio.create_task(send(stage, track("m-1")))
    await eventually(lambda: stage.claims._open)
    stage.consent.script.gate.set()
    with pytest.raises(StorageUnavailable):
        await first
    stage.consent.script.error = None
    assert await second == [ACCEPTED]
    assert stage.published() == ["m-1"]
    assert await ledger(stage) == {RECEIVED: 1, PUBLISHED: 1}


async def test_copies_that_all_fail_are_refused_and_may_be_sent_again(stage: Stage) -> None:
    """Nobody is acknowledged, nothing is counted, and nothing stands in the way of the next try."""
    stage.bus.fail_when(lambda _: "the queue is full")
    errors = await asyncio.gather(*(refused(stage, track("m-1")) for _ in range(2)))
    assert {type(error) for error in errors} == {BusUnavailable}
    stage.bus.fail_when(lambda _: None)
    assert await ledger(stage) == {}
    assert await send(stage, track("m-1")) == [ACCEPTED]
    assert stage.claims.in_flight() == 0


async def test_a_filtered_event_is_counted_and_decided_anew_when_it_comes_again(stage: Stage) -> None:
    """It is on no topic: once consent is given the same message may be published.

    Copies under way share the decision.
    """
    stage.consent.refused = {"p-a"}
    answers = await asyncio.gather(*(send(stage, track("m-1")) for _ in range(5)))
    assert answers == [[FILTERED]] * 5
    assert len(stage.consent.script.requests) == 1
    stage.consent.refused = set()
    assert await send(stage, track("m-1")) == [ACCEPTED]
    assert await ledger(stage) == {RECEIVED: 6, NO_CONSENT: 5, PUBLISHED: 1}


async def test_a_refused_event_is_counted_by_its_reason_and_may_be_mended(stage: Stage) -> None:
    """A message id that was rejected is no published message; one that repeats another of its request is a copy."""
    assert await send(stage, {"type": "nonsense", "messageId": "m-1"}, track("m-2"), track("m-2")) == [
        REFUSED,
        ACCEPTED,
        COPY,
    ]
    assert await send(stage, track("m-1")) == [ACCEPTED]
    assert await ledger(stage) == {RECEIVED: 4, BAD_TYPE: 1, PUBLISHED: 2, DUPLICATE: 1}


async def test_what_nobody_acknowledged_and_is_stored_is_a_duplicate(stage: Stage) -> None:
    """The topic's own tail tells: the client is refused, its retry is not published again."""
    stage.bus.lose_answers()
    assert isinstance(await refused(stage, track("m-1"), {"type": "nonsense"}), BusUnavailable)
    stage.bus.lose_answers(False)
    await eventually(lambda: not stage.claims.unknown)
    assert await send(stage, track("m-1")) == [COPY]
    assert stage.published() == ["m-1"]
    assert await ledger(stage) == {RECEIVED: 3, PUBLISHED: 1, BAD_TYPE: 1, DUPLICATE: 1}


async def test_what_nobody_acknowledged_and_is_not_stored_is_published_by_the_retry(shelf: Shelf, clock: Clock) -> None:
    """While the broker cannot be asked, a retry is told to come again; nothing is decided by guessing."""
    bus = MemoryBus(delivery_timeout_seconds=0.01)
    async with running_stage(bus, await shelf.open(clock)) as stage:
        bus.stop()
        await refused(stage, track("m-1"))
        assert stage.claims.unknown
        assert stage.claims.in_flight(SOURCE.workspace, SOURCE.name) == 1
        assert isinstance(await refused(stage, track("m-1")), BusUnavailable)
        bus.start()
        await eventually(lambda: not stage.claims.unknown)
        assert await send(stage, track("m-1")) == [ACCEPTED]
        assert stage.published() == ["m-1"]
        assert await ledger(stage) == {RECEIVED: 1, PUBLISHED: 1}
        assert stage.claims.in_flight() == 0


async def test_a_client_that_went_away_changes_nothing_about_what_is_at_kafka(stage: Stage) -> None:
    """Its retry is a duplicate: the claim is settled by Kafka's answer and not by who waits for it."""
    stage.bus.stop()
    gone = asyncio.create_task(send(stage, track("m-1")))
    await eventually(lambda: stage.bus.in_flight)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    stage.bus.start()
    assert await send(stage, track("m-1")) == [COPY]
    assert await ledger(stage) == {RECEIVED: 2, PUBLISHED: 1, DUPLICATE: 1}


async def test_a_client_that_goes_away_before_leaves_no_claim(stage: Stage) -> None:
    """What was not handed to Kafka may be claimed again."""
    stage.consent.script.gate.clear()
    gone = asyncio.create_task(send(stage, track("m-1")))
    await eventually(lambda: stage.consent.script.requests)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    stage.consent.script.gate.set()
    await eventually(lambda: not stage.claims._open)
    assert await send(stage, track("m-1")) == [ACCEPTED]


async def test_a_crash_between_kafkas_acknowledgement_and_our_mark_doubles_nothing(shelf: Shelf, clock: Clock) -> None:
    """The next start reads the topics' ends: retries are duplicates, and every record is counted once."""
    bus = MemoryBus()
    async with a_run(shelf, clock, bus) as stage:
        assert await send(stage, track("m-1"), {"type": "nonsense"}) == [ACCEPTED, REFUSED]
        await stage.claims.journal.kept()
        forgetful(stage)
        assert await send(stage, track("m-2"), {"type": "nonsense"}) == [ACCEPTED, REFUSED]
    async with running_stage(bus, await shelf.open(clock)) as stage:
        await eventually(lambda: stage.claims.recovered)
        assert await ledger(stage) == {RECEIVED: 4, PUBLISHED: 2, BAD_TYPE: 2}
        assert await send(stage, track("m-1"), track("m-2"), track("m-3")) == [COPY, COPY, ACCEPTED]
        assert stage.published() == ["m-1", "m-2", "m-3"]
        assert await ledger(stage) == {RECEIVED: 7, PUBLISHED: 3, BAD_TYPE: 2, DUPLICATE: 2}


async def test_a_crash_before_kafka_had_the_record_loses_nothing(shelf: Shelf, clock: Clock) -> None:
    """A claim without a record is released: the retry is published."""
    bus = MemoryBus(delivery_timeout_seconds=30.0)
    async with a_run(shelf, clock, bus) as stage:
        bus.stop()
        waiting = asyncio.create_task(send(stage, track("m-1")))
        await eventually(lambda: bus.in_flight)
        bus._waiting.clear()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        bus.start()
    async with running_stage(bus, await shelf.open(clock)) as stage:
        await eventually(lambda: stage.claims.recovered)
        assert await send(stage, track("m-1")) == [ACCEPTED]
        assert stage.published() == ["m-1"]
        assert await ledger(stage) == {RECEIVED: 1, PUBLISHED: 1}


async def test_nothing_is_taken_before_the_topics_ends_were_read(shelf: Shelf, clock: Clock) -> None:
    """What an earlier run published is not known yet: the client is told to send again."""
    bus = MemoryBus()
    store = await shelf.open(clock)
    async with running_stage(bus, store) as stage:
        stage.claims._recovered = False
        assert isinstance(await refused(stage, track("m-1")), BusUnavailable)
        assert stage.bus.read("clew.events.v1") == []


async def test_a_run_that_could_not_read_the_topics_forgets_nothing(shelf: Shelf, clock: Clock) -> None:
    """Kafka was away for all of its life: where the topics are accounted for is still what the run before said."""
    bus = MemoryBus()
    async with a_run(shelf, clock, bus) as stage:
        await stage.claims.journal.kept()
        forgetful(stage)
        assert await send(stage, track("m-1")) == [ACCEPTED]
    store = await shelf.open(clock)
    idle = Claims(store, bus)
    await idle.journal.kept()
    await idle.close()
    async with running_stage(bus, await shelf.open(clock)) as stage:
        await eventually(lambda: stage.claims.recovered)
        assert await send(stage, track("m-1")) == [COPY]
        assert await ledger(stage) == {RECEIVED: 2, PUBLISHED: 1, DUPLICATE: 1}


async def test_a_topic_made_anew_takes_what_the_lost_one_had(shelf: Shelf, clock: Clock) -> None:
    """On the same cluster: its offsets went back. A retry is published again, or it would be lost."""
    async with a_run(shelf, clock, MemoryBus()) as stage:
        assert await send(stage, track("m-1")) == [ACCEPTED]
        await stage.claims.journal.kept()
        cluster, lows = stage.claims.durable_position()
        await stage.claims.store.renew(lows, cluster)
    async with running_stage(MemoryBus(), await shelf.open(clock)) as stage:
        await eventually(lambda: stage.claims.recovered)
        assert await send(stage, track("m-1")) == [ACCEPTED]
        assert stage.published() == ["m-1"]
        assert await ledger(stage) == {RECEIVED: 2, PUBLISHED: 2}


async def test_a_store_that_cannot_answer_publishes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails closed, and once it answers again, the retry is published."""

    async def fail(_: object) -> dict[bytes, Any]:
        raise StorageUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(stage.claims.store, "claim", fail)
        assert isinstance(await refused(stage, track("m-1")), StorageUnavailable)
    assert stage.published() == []
    assert await send(stage, track("m-1")) == [ACCEPTED]


async def test_what_is_on_no_topic_is_answered_when_its_count_is_durable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duplicate waits for the store; what is on a topic does not: the topic is its proof."""
    gate = asyncio.Event()
    apply = stage.claims.store.apply

    async def held(changes: Any) -> None:
        await gate.wait()
        await apply(changes)

    monkeypatch.setattr(stage.claims.store, "apply", held)
    try:
        assert await send(stage, track("m-1")) == [ACCEPTED]
        copy = request(track("m-1"))
        answer = asyncio.create_task(stage.pipeline.submit(copy))
        await eventually(lambda: copy.outcomes)
        assert await send(stage, track("m-2")) == [ACCEPTED]
        assert not answer.done()
    finally:
        gate.set()
    await answer
    assert copy.outcomes[0].verdict == COPY


async def test_a_store_that_fails_for_a_while_loses_no_count(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is written later, with what came since."""
    apply, failures = stage.claims.store.apply, iter([True, True])

    async def failing(changes: Any) -> None:
        if next(failures, False):
            raise StorageUnavailable("disk full")
        await apply(changes)

    monkeypatch.setattr(stage.claims.store, "apply", failing)
    assert await send(stage, track("m-1")) == [ACCEPTED]
    assert await send(stage, track("m-1"), track("m-2")) == [COPY, ACCEPTED]
    assert await ledger(stage) == {RECEIVED: 3, PUBLISHED: 2, DUPLICATE: 1}


async def test_sources_and_workspaces_have_message_ids_of_their_own(stage: Stage) -> None:
    """Names that read the same when they are joined are two sources all the same."""
    for workspace, source in (("shop", "web"), ("shop", "app"), ("blog", "web"), ("sho", "pweb")):
        carried = request(track("m-1"))
        carried.source = type(SOURCE)(workspace, source, SOURCE.purposes)
        await stage.pipeline.submit(carried)
        assert carried.outcomes[0].verdict == ACCEPTED
    assert len(stage.published()) == 4


async def test_a_storm_of_copies_is_one_record_each(stage: Stage) -> None:
    """Whatever batches they travel in, and however many callers send them, every message is published once."""
    answers = await asyncio.gather(*(send(stage, track(f"m-{number % 20}")) for number in range(200)))
    assert Counter(answer[0] for answer in answers) == {ACCEPTED: 20, COPY: 180}
    assert sorted(stage.published()) == sorted(f"m-{number}" for number in range(20))
    counts = await ledger(stage)
    assert counts == {RECEIVED: 200, PUBLISHED: 20, DUPLICATE: 180}
    assert balanced(counts)
