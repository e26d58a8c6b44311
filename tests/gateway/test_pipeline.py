"""The data path: who, may we, what else, publish; whole batches or nothing, and each request learns its own fate."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clew.collector.v1.collector_service_pb2 import FilterReason, Verdict
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.identity.v1.identifier_pb2 import Assurance
from clew.identity.v1.identity_service_pb2 import IdentityQuery, ResolvedIdentity
from clew.options.v1.privacy_pb2 import Purpose
from gateway.batch import Claimed, Resolved, Submission
from gateway.sources import Source
from mesh.bus.port import Record
from mesh.errors import (
    BusUnavailable,
    ClewError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Overloaded,
    StorageUnavailable,
)
from tests.gateway.scripted import SOURCE, Stage, plain_identity, running_stage, submission, trace_of
from tests.mesh.rpc import eventually, ids_of

ACCEPTED, DUPLICATE = Verdict.VERDICT_ACCEPTED, Verdict.VERDICT_DUPLICATE
REJECTED, FILTERED = Verdict.VERDICT_REJECTED, Verdict.VERDICT_FILTERED


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A pipeline that works."""
    async with running_stage() as running:
        yield running


def track(message_id: str, *, anonymous_id: str = "a", **members: Any) -> dict[str, Any]:
    """One track call."""
    return {"type": "track", "event": "Seen", "messageId": message_id, "anonymousId": anonymous_id, **members}


def request(*events: Any, **options: Any) -> Submission:
    """An admitted batch of events."""
    return submission(json.dumps({"batch": events}).encode(), **options)


def verdicts(carried: Submission) -> list[Verdict.ValueType]:
    """What became of each event, in order."""
    return [carried.outcomes[index].verdict for index in range(carried.count)]


def start(stage: Stage, *submissions: Submission) -> list["asyncio.Task[None]"]:
    """Submit requests one after the other, each by a caller of its own."""
    return [asyncio.create_task(stage.pipeline.submit(each)) for each in submissions]


async def start_together(stage: Stage, *submissions: Submission) -> list["asyncio.Task[None]"]:
    """Submit requests that leave in one batch: behind one that is held by identity."""
    script = stage.identity.script
    script.gate.clear()
    first = start(stage, request(track("first", anonymous_id="first")))
    await eventually(lambda: script.requests)
    rest = start(stage, *submissions)
    await asyncio.sleep(0)
    script.gate.set()
    return [*first, *rest]


async def fates(tasks: list["asyncio.Task[None]"]) -> list[BaseException | None]:
    """How each caller fared."""
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_good_and_bad_events_of_a_request_each_get_their_outcome_and_their_place(stage: Stage) -> None:
    """Events are published in order, refused ones go to the failed topic, and every index has an outcome."""
    bad = {"type": "track", "event": "Seen", "messageId": "bad"}
    carried = request(track("m-1"), bad, track("m-2", anonymous_id="b"), track("m-1"), 7)
    await stage.pipeline.submit(carried)
    assert verdicts(carried) == [ACCEPTED, REJECTED, ACCEPTED, DUPLICATE, REJECTED]
    assert carried.outcomes[1].failure_reason == FailureReason.FAILURE_REASON_MISSING_IDENTIFIER
    assert stage.published() == ["m-1", "m-2"]
    assert [record.key for record in stage.bus.read("clew.events.v1")] == [b"p-a", b"p-b"]
    assert len(stage.bus.read("clew.events.failed.v1")) == 3


async def test_a_record_carries_what_every_stage_found(stage: Stage) -> None:
    """Profile, decision and enrichment stand in the record beside what the client sent."""
    await stage.pipeline.submit(request(track("m-1", context={"userAgent": "Mosaic"}, properties={"n": 1})))
    (record,) = stage.bus.read("clew.events.v1")
    event = EnrichedEvent.FromString(record.value[6:])
    assert (event.profile_id, event.enrichment.client.browser, event.consent.epoch) == ("p-a", "Mosaic", 1)
    assert event.properties_json == '{"n": 1}'


async def test_requests_are_published_in_order_of_arrival(stage: Stage) -> None:
    """Whatever batches they travel in, a visitor's events keep the order in which they came."""
    sent = [request(track(f"m-{number}")) for number in range(60)]
    tasks = []
    for number, each in enumerate(sent):
        tasks += start(stage, each)
        if number % 7 == 0:
            await asyncio.sleep(0.002)
    assert await fates(tasks) == [None] * 60
    assert stage.published() == [f"m-{number}" for number in range(60)]


async def test_events_in_the_same_circumstances_share_one_query(stage: Stage) -> None:
    """Each service is asked once about each distinct thing, however many events need to know it."""
    events = [track(f"m-{number}", anonymous_id=f"a{number % 2}") for number in range(10)]
    await stage.pipeline.submit(request(*events))
    assert [len(script.requests[0].items) for script in stage.scripts().values()] == [2, 2, 1]
    assert len(stage.published()) == 10


async def test_a_proven_user_id_is_another_query_than_an_asserted_one(stage: Stage) -> None:
    """The proof belongs to the event that it came with: its neighbour with the same user id stays asserted."""
    await stage.pipeline.submit(request(track("m-1", userId="u"), track("m-2", userId="u"), proven=frozenset({1})))
    (asked,) = stage.identity.script.requests
    assert [item.user_id_verified for item in asked.items] == [False, True]
    events = [EnrichedEvent.FromString(record.value[6:]) for record in stage.bus.read("clew.events.v1")]
    assert [event.assurance for event in events] == [
        Assurance.ASSURANCE_ASSERTED,
        Assurance.ASSURANCE_VERIFIED,
    ]


async def test_the_previous_id_counts_for_alias_calls_only(stage: Stage) -> None:
    """Another call that carries one must not join anybody."""
    alias = {"type": "alias", "messageId": "m-2", "userId": "u", "previousId": "old"}
    await stage.pipeline.submit(request(track("m-1", userId="u", previousId="old"), alias))
    (asked,) = stage.identity.script.requests
    assert [item.previous_id for item in asked.items] == ["", "old"]


async def test_a_visitor_who_logs_in_within_a_batch_is_asked_for_anew(stage: Stage) -> None:
    """The login may have moved the visitor: what comes after it is not answered by what was known before."""
    moved: set[str] = set()

    def resolve(query: IdentityQuery) -> ResolvedIdentity:
        if query.user_id:
            moved.add(query.anonymous_id)
        return ResolvedIdentity(profile_id="p-u") if query.anonymous_id in moved else plain_identity(query)

    stage.identity.resolve = resolve
    await stage.pipeline.submit(request(track("m-1"), track("m-2", userId="u"), track("m-3"), track("m-4")))
    assert len(stage.identity.script.requests[0].items) == 3
    assert [record.key for record in stage.bus.read("clew.events.v1")] == [b"p-a", b"p-u", b"p-u", b"p-u"]


async def test_what_a_batch_itself_merges_counts_for_its_decisions(stage: Stage) -> None:
    """A visitor who refused and then logs in stays refused, also for the user's events earlier in the same batch."""

    def resolve(query: IdentityQuery) -> ResolvedIdentity:
        return ResolvedIdentity(profile_id="p-u", merged_profile_ids=["p-a"] if query.anonymous_id else [])

    stage.identity.resolve = resolve
    stage.consent.refused = {"p-a"}
    user_alone = {"type": "track", "event": "Seen", "messageId": "m-1", "userId": "u"}
    carried = request(user_alone, track("m-2", userId="u"))
    await stage.pipeline.submit(carried)
    assert verdicts(carried) == [FILTERED, FILTERED]


async def test_what_consent_refuses_is_filtered_and_goes_nowhere(stage: Stage) -> None:
    """A filtered event is not published, not enriched, not failed; its neighbours are not touched."""
    stage.consent.refused = {"p-no"}
    carried = request(track("m-1", anonymous_id="no", context={"userAgent": "Secret"}), track("m-2"))
    await stage.pipeline.submit(carried)
    assert verdicts(carried) == [FILTERED, ACCEPTED]
    assert carried.outcomes[0].filter_reason == FilterReason.FILTER_REASON_CONSENT
    assert stage.published() == ["m-2"]
    assert stage.bus.read("clew.events.failed.v1") == []
    (asked,) = stage.enrich.script.requests
    assert [item.user_agent for item in asked.items] == [""]


async def test_a_batch_that_is_wholly_filtered_needs_neither_enrichment_nor_kafka(stage: Stage) -> None:
    """Nothing is left to do, so nothing that is down can fail it."""
    stage.consent.refused = {"p-a"}
    stage.bus.stop()
    stage.enrich.script.error = StorageUnavailable()
    carried = request(track("m-1"))
    await stage.pipeline.submit(carried)
    assert verdicts(carried) == [FILTERED]


async def test_an_event_is_kept_for_a_purpose_of_its_source_only(stage: Stage) -> None:
    """Allowed purposes that the source does not collect for allow nothing."""
    nothing_in_common = Source("shop", "ads", frozenset())
    other = Source("shop", "web", frozenset({Purpose.PURPOSE_ADVERTISING}))
    first, second = request(track("m-1"), source=nothing_in_common), request(track("m-2"), source=other)
    await asyncio.gather(*start(stage, first, second))
    assert (verdicts(first), verdicts(second)) == ([FILTERED], [ACCEPTED])


async def test_presented_preferences_are_decided_apart(stage: Stage) -> None:
    """One visitor's events with and without a refused category are two questions."""
    refusing = {"consent": {"categoryPreferences": {"Analytics": False}}}
    carried = request(track("m-1"), track("m-2", context=refusing))
    await stage.pipeline.submit(carried)
    assert len(stage.consent.script.requests[0].items) == 2
    assert verdicts(carried) == [ACCEPTED, FILTERED]


async def test_a_request_of_bad_events_only_asks_nobody(stage: Stage) -> None:
    """Its events go to the failed topic, whichever services are down."""
    for script in stage.scripts().values():
        script.error = StorageUnavailable()
    carried = request(1, {"type": "nonsense"})
    await stage.pipeline.submit(carried)
    assert verdicts(carried) == [REJECTED, REJECTED]
    assert len(stage.bus.read("clew.events.failed.v1")) == 2


@pytest.mark.parametrize("service", ["identity", "consent", "enrich"])
async def test_a_stage_that_fails_publishes_nothing_and_everyone_learns_why(stage: Stage, service: str) -> None:
    """Closed: every caller of the batch gets the reason, none an outcome; the next batch is a new try."""
    script = stage.scripts()[service]
    tasks = await start_together(stage, request(track("m-1")), request(track("m-2"), 7))
    script.error = StorageUnavailable("disk full")
    results = (await fates(tasks))[1:]
    assert [type(result) for result in results] == [StorageUnavailable, StorageUnavailable]
    assert [record for record in stage.published() if record != "first"] == []
    assert stage.bus.read("clew.events.failed.v1") == []
    script.error = None
    again = request(track("m-1"))
    await stage.pipeline.submit(again)
    assert verdicts(again) == [ACCEPTED]


async def test_what_a_service_calls_a_broken_request_is_our_fault(stage: Stage) -> None:
    """A 400 would make every client of the batch drop its events; 500 makes them send again."""
    stage.enrich.script.error = InvalidArgument("must be shorter", field="items[0].locale")
    with pytest.raises(Internal) as caught:
        await stage.pipeline.submit(request(track("m-1")))
    assert "locale" not in str(caught.value)


@pytest.mark.parametrize(("retriable", "error"), [(True, BusUnavailable), (False, Internal)])
async def test_a_record_that_kafka_refuses_fails_its_request_only(
    stage: Stage, retriable: bool, error: type[ClewError]
) -> None:
    """The other requests of the batch stand: their events are acknowledged."""

    def refuse(record: Record) -> str | None:
        return "no" if ("clew-message-id", b"m-2") in record.headers else None

    stage.bus.fail_when(refuse, retriable=retriable)
    sent = [request(track("m-1")), request(track("m-2"), track("m-3")), request(track("m-4"))]
    first, *results = await fates(await start_together(stage, *sent))
    assert (first, results[0], results[2]) == (None, None, None)
    assert type(results[1]) is error
    assert verdicts(sent[0]) == verdicts(sent[2]) == [ACCEPTED]


async def test_the_next_batch_leaves_before_kafka_has_acknowledged_the_last(stage: Stage) -> None:
    """A slow broker delays answers, not the flow: several batches await their acknowledgement at a time."""
    stage.bus.stop()
    first = start(stage, request(track("m-1")))
    await eventually(lambda: stage.bus.in_flight == 1)
    second = start(stage, request(track("m-2")))
    await eventually(lambda: stage.bus.in_flight == 2)
    assert not first[0].done()
    assert not second[0].done()
    stage.bus.start()
    assert await fates(first + second) == [None, None]
    assert stage.published() == ["m-1", "m-2"]


async def test_identity_works_for_the_next_batch_while_one_is_encoded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch's question is on its way before this one's events are encoded; it is decided behind them."""
    seen: list[str] = []
    encode, resolve, produce = stage.pipeline._encoder.events, stage.pipeline.resolve, stage.claims.produce

    def encoding(*arguments: Any) -> list[Record]:
        seen.append("encode")
        return encode(*arguments)

    async def resolving(batch: Claimed) -> Resolved:
        seen.append("resolve")
        return await resolve(batch)

    def producing(claimed: Claimed, *arguments: Any) -> Any:
        seen.append(f"produce {claimed.submissions[0].decoded.events[0].message_id}")
        return produce(claimed, *arguments)

    monkeypatch.setattr(stage.pipeline._encoder, "events", encoding)
    monkeypatch.setattr(stage.pipeline, "resolve", resolving)
    monkeypatch.setattr(stage.claims, "produce", producing)
    stage.enrich.script.gate.clear()
    first = start(stage, request(track("m-1")))
    await eventually(lambda: stage.enrich.script.requests)
    second = start(stage, request(track("m-2")))
    await asyncio.sleep(0)
    stage.enrich.script.gate.set()
    assert await fates(first + second) == [None, None]
    assert seen == ["resolve", "resolve", "encode", "produce m-1", "encode", "produce m-2"]


async def test_a_batch_ends_in_time_for_the_request_that_waited_longest(stage: Stage) -> None:
    """What is left for the services is what is left for the oldest of its requests."""
    tasks = await start_together(stage, request(track("m-1"), seconds=1.5), request(track("m-2"), seconds=4.0))
    assert await fates(tasks) == [None, None, None]
    _, left = stage.identity.script.seconds_left
    assert 0.5 < left < 1.5


async def test_a_request_without_time_is_not_begun(stage: Stage) -> None:
    """Nothing is asked for a caller that has given up already."""
    with pytest.raises(DeadlineExceeded):
        await stage.pipeline.submit(request(track("m-1"), seconds=-1.0))
    assert stage.identity.script.requests == []


async def test_a_client_that_goes_away_stops_the_chain(stage: Stage) -> None:
    """The service that works for it sees the cancellation, and nothing is published."""
    stage.consent.script.gate.clear()
    (task,) = start(stage, request(track("m-1")))
    await eventually(lambda: stage.consent.script.requests)
    task.cancel()
    await eventually(lambda: stage.consent.script.cancelled)
    assert isinstance((await fates([task]))[0], asyncio.CancelledError)
    await stage.pipeline.drain()
    assert stage.published() == []


async def test_a_batch_goes_on_while_anyone_waits_for_it(stage: Stage) -> None:
    """One of two clients that goes away takes nothing from the other."""
    consent = stage.consent.script
    consent.gate.clear()
    first, gone, patient = await start_together(stage, request(track("m-1")), request(track("m-2")))
    await eventually(lambda: len(consent.requests) == 1)
    # Whoever waits passes, and the next one is held.
    consent.gate.set()
    consent.gate.clear()
    await eventually(lambda: len(consent.requests) == 2)
    gone.cancel()
    consent.gate.set()
    results = await fates([first, gone, patient])
    assert (results[0], results[2]) == (None, None)
    assert stage.published()[-1] == "m-2"
    assert stage.consent.script.cancelled == 0


async def test_workspaces_do_not_wait_for_each_other(stage: Stage) -> None:
    """A batch is one workspace's: another's goes its way while the first one is held."""
    stage.identity.script.gate.clear()
    held, other = start(
        stage,
        request(track("m-1")),
        request(track("m-2"), source=Source("blog", "web", SOURCE.purposes)),
    )
    await eventually(lambda: len(stage.identity.script.requests) == 2)
    assert {asked.workspace for asked in stage.identity.script.requests} == {"shop", "blog"}
    stage.identity.script.gate.set()
    assert await fates([held, other]) == [None, None]


async def test_a_queue_that_is_full_refuses_at_once(stage: Stage) -> None:
    """Fails closed, with a time to come back; what is already waiting is not hurt."""
    stage.identity.script.gate.clear()
    large = [request(*(track(f"{batch}-{n}") for n in range(2_500))) for batch in range(10)]
    waiting = start(stage, large[0])
    await eventually(lambda: stage.identity.script.requests)
    waiting += start(stage, *large[1:9])
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await stage.pipeline.submit(large[9])
    assert caught.value.metadata["retry_after_seconds"] == "1"
    stage.identity.script.gate.set()
    assert await fates(waiting) == [None] * 9


async def test_draining_waits_for_what_was_taken(stage: Stage) -> None:
    """After it every request has its answer."""
    stage.bus.stop()
    tasks = start(stage, request(track("m-1")))
    await eventually(lambda: stage.bus.in_flight)
    drained = asyncio.create_task(stage.pipeline.drain())
    await asyncio.sleep(0.05)
    assert not drained.done()
    stage.bus.start()
    await drained
    assert await fates(tasks) == [None]


async def test_a_batch_is_one_span_in_the_first_sampled_trace_and_links_to_the_others(stage: Stage) -> None:
    """No span an event: the stages are children of the batch, which every sampled request's trace leads to."""
    sent = [
        request(track("m-1"), trace=trace_of(11, sampled=False)),
        request(track("m-2"), trace=trace_of(12)),
        request(track("m-3"), trace=trace_of(13)),
    ]
    assert await fates(await start_together(stage, *sent)) == [None] * 4
    (batch,) = [span for span in stage.recorder.spans() if span.name == "clew.batch" and ids_of(span).trace_id == 12]
    assert batch.parent is not None
    assert batch.parent.span_id == 12
    assert [link.context.trace_id for link in batch.links] == [13]
    assert batch.attributes == {"clew.batch.requests": 3, "clew.batch.events": 3}
    children = [span for span in stage.recorder.spans() if span.parent and span.parent.span_id == ids_of(batch).span_id]
    assert len(children) == 4
    assert {span.name for span in children} >= {"publish"}
    traceparents = [dict(record.headers)["traceparent"].split(b"-")[1] for record in stage.bus.read("clew.events.v1")]
    assert [int(trace, 16) for trace in traceparents[1:]] == [11, 12, 13]


async def test_a_failed_publish_is_an_error_in_the_trace(stage: Stage) -> None:
    """Whoever reads the trace of a 503 finds the stage that failed."""
    stage.bus.fail_when(lambda _: "the broker is gone")
    with pytest.raises(BusUnavailable):
        await stage.pipeline.submit(request(track("m-1"), trace=trace_of(21)))
    (publish,) = [span for span in stage.recorder.spans() if span.name == "publish"]
    assert not publish.status.is_ok
    assert publish.status.description == "the broker is gone"
