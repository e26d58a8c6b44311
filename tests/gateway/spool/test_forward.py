"""Store and forward: an outage of whatever is behind is answered 200, and afterwards all is as if it had not been."""

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from clew.event.v1.failed_event_pb2 import FailedEvent, FailureReason
from clew.identity.v1 import identity_service_pb2 as identity
from clew.identity.v1.identifier_pb2 import Assurance
from gateway.batch import Submission
from gateway.carrier import Abandon, Carrier, Done, carried
from gateway.claims.sqlite import SqliteClaims
from gateway.http.message import Headers, Request
from gateway.http.router import Router
from gateway.ledger.tally import DUPLICATE, PUBLISHED, RECEIVED, rejected
from gateway.routes.health import add_health_routes
from gateway.spool.deferral import State
from gateway.spool.log import read_refused
from gateway.spool.record import release
from gateway.spool.spool import SpoolBounds
from mesh.bus.memory import MemoryBus
from mesh.errors import (
    BusUnavailable,
    ClewError,
    DeadlineExceeded,
    Internal,
    Overloaded,
    StorageUnavailable,
)
from tests.gateway.claims.test_claims import balanced, ledger
from tests.gateway.scripted import plain_identity, running_stage
from tests.gateway.spool.forwarding import (
    ACCEPTED,
    DEFERRED,
    DOWN,
    DUPLICATED,
    FILTERED,
    REJECTED,
    Door,
    a_door,
    forwarding,
    records,
    request,
    track,
)
from tests.mesh.rpc import eventually

BAD_TYPE = rejected(FailureReason.FAILURE_REASON_UNKNOWN_TYPE)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """A gateway that works, with an empty spool."""
    async with a_door(tmp_path / "spool") as opened:
        yield opened


async def shut(door: Door, message_id: str = "first") -> None:
    """Let identity fail, so that a request is deferred, and all others behind it."""
    door.stage.identity.script.error = DOWN
    assert await door.send(track(message_id)) == [DEFERRED]


def mend(door: Door) -> None:
    """Identity works again."""
    door.stage.identity.script.error = None


async def test_while_all_works_the_spool_is_not_touched(door: Door, tmp_path: Path) -> None:
    """Requests are published before they are answered, and nothing is written."""
    assert await door.send(track("m-1"), {"type": "shrug"}) == [ACCEPTED, REJECTED]
    assert door.forward.status()["bytes"] == 0
    assert not list((tmp_path / "spool").glob("*.log"))


@pytest.mark.parametrize(
    "error",
    [DOWN, StorageUnavailable("x"), Overloaded("x"), DeadlineExceeded("x")],
    ids=lambda error: str(error.reason),
)
async def test_what_a_service_that_is_down_refuses_is_deferred(door: Door, error: ClewError) -> None:
    """Each event has its verdict, bad ones as well; when the service is back they are where they belong."""
    door.stage.identity.script.error = error
    assert await door.send(track("m-1"), {"type": "shrug"}) == [DEFERRED, DEFERRED]
    assert door.stage.published() == []
    assert door.counts() == {"received": 2, "deferred": 2, "requests": 1}
    mend(door)
    await door.drained()
    assert door.stage.published() == ["m-1"]
    assert len(door.stage.bus.read("clew.events.failed.v1")) == 1
    assert door.counts() == {"received": 2, "accepted": 1, "rejected": 1, "requests": 1}


async def test_a_fault_that_no_waiting_mends_is_not_deferred(door: Door) -> None:
    """It would block the spool, and its client learns more from an error."""
    door.stage.identity.script.error = Internal("broken")
    with pytest.raises(Internal):
        await door.send(track("m-1"))
    assert door.forward.carrier.state is State.OPEN
    assert door.forward.spool.events == 0


async def test_later_requests_queue_behind(door: Door) -> None:
    """Also when what was down is back: no event of a visitor overtakes an earlier one."""
    await shut(door, "m-0")
    for number in range(1, 40):
        assert await door.send(track(f"m-{number}")) == [DEFERRED]
    mend(door)
    number = 40
    while await door.send(track(f"m-{number}")) == [DEFERRED]:
        number += 1
    await door.drained()
    assert door.stage.published() == [f"m-{index}" for index in range(number + 1)]


async def test_requests_under_way_are_deferred_with_the_first(door: Door) -> None:
    """In order of arrival, once one has waited for as long as it may: nobody waits longer than that."""
    door.stage.identity.script.gate.clear()
    sent = [asyncio.create_task(door.send(track(f"m-{number}"))) for number in range(20)]
    assert await asyncio.gather(*sent) == [[DEFERRED]] * 20
    door.stage.identity.script.gate.set()
    await door.drained()
    assert door.stage.published() == [f"m-{number}" for number in range(20)]


async def test_kafka_away_and_back_loses_and_doubles_nothing(door: Door) -> None:
    """What its client may have delivered or not is kept as well: its own record on the topic is no duplicate."""
    assert await door.send(track("before")) == [ACCEPTED]
    door.stage.bus.stop()
    sent = [asyncio.create_task(door.send(track(f"m-{number}"))) for number in range(10)]
    assert await asyncio.gather(*sent) == [[DEFERRED]] * 10
    assert await door.send(track("m-10")) == [DEFERRED]
    assert door.stage.claims.in_flight() + door.forward.spool.events == 11
    door.stage.bus.start()
    await door.drained()
    assert Counter(door.stage.published()) == Counter(["before", *(f"m-{number}" for number in range(11))])
    assert await ledger(door.stage) == {RECEIVED: 12, PUBLISHED: 12}
    assert door.stage.claims.in_flight() + door.forward.spool.events == 0
    assert door.counts() == {"received": 12, "accepted": 12, "requests": 12}


async def test_answers_that_were_lost_are_found_on_the_topic(door: Door) -> None:
    """Kafka has stored what it did not acknowledge: it is read there, and stands there once."""
    door.stage.bus.lose_answers()
    assert await door.send(track("m-1")) == [DEFERRED]
    door.stage.bus.lose_answers(False)
    await door.drained()
    assert door.stage.published() == ["m-1"]
    assert await ledger(door.stage) == {RECEIVED: 1, PUBLISHED: 1}


@pytest.mark.parametrize("beside", [[], ["new"]], ids=["alone", "beside_another"])
async def test_copies_that_are_in_doubt_shut_nothing(door: Door, beside: list[str]) -> None:
    """Whoever sends one event three times at once, and may not send it, defers nobody: they are refused alone."""
    door.stage.consent.refused = {"p-a"}
    sent = [track("same"), *(track(name, anonymousId="b") for name in beside)]
    answers = await asyncio.gather(*(door.send(*sent) for _ in range(3)), return_exceptions=True)
    assert answers[0] == [FILTERED, *(ACCEPTED for _ in beside)]
    for answer in answers[1:]:
        assert isinstance(answer, BusUnavailable) or answer == [FILTERED, *(DUPLICATED for _ in beside)]
    assert door.forward.carrier.state is State.OPEN
    assert door.forward.spool.events == 0
    assert door.stage.published() == beside


async def test_a_copy_of_what_kafka_has_not_answered_yet_is_refused_alone(tmp_path: Path) -> None:
    """As without a spool: others are not deferred for it."""
    bus = MemoryBus(delivery_timeout_seconds=30.0)
    async with running_stage(bus) as stage, forwarding(stage, tmp_path / "spool", patience=10.0) as door:
        bus.stop()
        first = asyncio.create_task(stage.pipeline.submit(request(track("same"))))
        await eventually(lambda: stage.claims.in_flight() == 1)
        await eventually(lambda: bool(stage.enrich.script.requests))
        with pytest.raises(BusUnavailable, match="another copy of an event"):
            await door.send(track("same"))
        assert door.forward.carrier.state is State.OPEN
        bus.start()
        await first
        assert await door.send(track("same"), track("other")) == [DUPLICATED, ACCEPTED]
        assert door.forward.spool.events == 0


async def test_kafka_that_refuses_a_record_beside_a_filtered_event_is_an_outage(door: Door) -> None:
    """Each event has an outcome then, so nothing is in doubt: the request is deferred."""
    door.stage.consent.refused = {"p-b"}
    door.stage.bus.fail_when(lambda _: "the queue is full")
    sent = [track("m-1"), track("m-2", anonymousId="b"), {"type": "shrug"}]
    assert await door.send(*sent) == [DEFERRED] * 3
    door.stage.bus.fail_when(lambda _: None)
    await door.drained()
    assert door.stage.published() == ["m-1"]


async def test_many_copies_are_released_without_a_pause(door: Door) -> None:
    """They are in each other's way in a batch: then each goes for itself, and those behind them in their order."""
    await shut(door, "m-0")
    for _ in range(90):
        assert await door.send(track("same", anonymousId="b")) == [DEFERRED]
    for number in range(1, 4):
        assert await door.send(track(f"m-{number}")) == [DEFERRED]
    door.stage.consent.refused = {"p-b"}
    mend(door)
    await door.drained()
    assert door.stage.published() == [f"m-{number}" for number in range(4)]
    assert door.counts() == {"received": 94, "accepted": 4, "filtered": 90, "requests": 94}
    assert balanced(await ledger(door.stage))


def _unless_abandoned(done: Done) -> tuple[Done, Abandon]:
    """Tells the end until it is abandoned."""
    waiting = [done]

    def end(error: BaseException | None) -> None:
        for each in waiting:
            each(error)

    return end, waiting.clear


class _GoesOn:
    """A pipeline whose batches do not notice that their requests were taken out."""

    def __init__(self, pipeline: Carrier) -> None:
        self._pipeline = pipeline
        self.ended = asyncio.Event()

    def begin(self, submission: Submission, done: Done) -> Abandon:
        """Carry one to its end, whoever goes away."""
        tell, abandon = _unless_abandoned(done)

        def end(error: BaseException | None) -> None:
            self.ended.set()
            tell(error)

        self._pipeline.begin(submission, end)
        return abandon

    async def submit(self, submission: Submission) -> None:
        """The same, for who waits."""
        await carried(partial(self.begin, submission))


async def test_what_is_handed_over_after_it_was_kept_is_its_own_record(door: Door) -> None:
    """A batch goes on for a moment after its requests were kept; what it publishes then is no copy of another."""
    slow = door.forward.carrier._pipeline = _GoesOn(door.stage.pipeline)
    door.stage.identity.script.gate.clear()
    assert await door.send(track("m-1")) == [DEFERRED]
    door.stage.identity.script.gate.set()
    await slow.ended.wait()
    await door.drained()
    assert door.stage.published() == ["m-1"]
    assert await ledger(door.stage) == {RECEIVED: 1, PUBLISHED: 1}


async def test_a_copy_that_its_client_sends_again_is_a_duplicate(door: Door) -> None:
    """Whether it comes while the first one waits or afterwards."""
    await shut(door, "m-1")
    assert await door.send(track("m-1")) == [DEFERRED]
    mend(door)
    await door.drained()
    assert await door.send(track("m-1")) != [ACCEPTED]
    assert door.stage.published() == ["m-1"]
    counts = await ledger(door.stage)
    assert counts == {RECEIVED: 3, PUBLISHED: 1, DUPLICATE: 2}
    assert door.counts() == {"received": 3, "accepted": 1, "duplicate": 2, "requests": 3}


async def test_consent_is_decided_at_release(door: Door) -> None:
    """Who withdrew while the event waited is respected."""
    await shut(door, "m-1")
    assert await door.send(track("m-2", anonymousId="b")) == [DEFERRED]
    door.stage.consent.refused = {"p-a"}
    mend(door)
    await door.drained()
    assert door.stage.published() == ["m-2"]
    assert door.counts() == {"received": 2, "accepted": 1, "filtered": 1, "requests": 2}
    assert balanced(await ledger(door.stage))


async def test_what_a_token_proved_stays_proven(door: Door) -> None:
    """The token is not kept; time of receipt and circumstances are those of the request."""
    await shut(door)
    await door.send(track("m-1", userId="u"), track("m-2", userId="v"), proven=frozenset({0}))
    mend(door)
    await door.drained()
    found = {record.message_id: record for record in records(door.stage)}
    assert found["m-1"].assurance == Assurance.ASSURANCE_VERIFIED
    assert found["m-2"].assurance == Assurance.ASSURANCE_ASSERTED
    assert door.stage.enrich.script.requests[-1].items[0].ip == "203.0.113.7"


async def test_a_full_spool_answers_as_none_would(tmp_path: Path) -> None:
    """What is in it stays; the others are told to come back."""
    async with a_door(tmp_path / "spool", bounds=SpoolBounds(4_000)) as door:
        await shut(door, "m-0")
        kept = 1
        while door.forward.spool.size < 2_800:
            assert await door.send(track(f"m-{kept}")) == [DEFERRED]
            kept += 1
        with pytest.raises(Overloaded, match="the spool holds as much as it may"):
            await door.send(track("large", properties={"filling": "x" * 2_000}))
        assert 1 < kept < 10
        mend(door)
        await door.drained()
        assert door.stage.published() == [f"m-{number}" for number in range(kept)]
        assert await door.send(track("after")) == [ACCEPTED]


async def test_a_spool_that_is_too_old_takes_no_more(tmp_path: Path) -> None:
    """And drops nothing that was acknowledged."""
    async with a_door(tmp_path / "spool", bounds=SpoolBounds(1 << 20, most_seconds=0.0)) as door:
        await shut(door, "m-0")
        with pytest.raises(Overloaded):
            await door.send(track("m-1"))
        assert door.forward.status()["full"]
        mend(door)
        await door.drained()
        assert door.stage.published() == ["m-0"]


async def test_a_disk_that_fails_is_no_promise(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is answered 200 once it is on disk, and else not at all."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    door.stage.identity.script.error = DOWN
    with monkeypatch.context() as patch:
        patch.setattr("gateway.spool.log.os.fdatasync", fail)
        with pytest.raises(StorageUnavailable):
            await door.send(track("m-1"))
    assert door.counts() == {"received": 1, "unanswered": 1, "requests": 1}
    mend(door)
    await door.drained()
    assert door.stage.published() == []


async def test_a_request_that_spoils_its_batch_is_set_aside(door: Door, tmp_path: Path) -> None:
    """One that fails by itself again and again is kept in a file, and those behind it go on."""
    await shut(door, "m-0")
    for name in ("b", "poison", "c"):
        assert await door.send(track(f"m-{name}", userId=name)) == [DEFERRED]

    def resolve(query: identity.IdentityQuery) -> identity.ResolvedIdentity:
        if query.user_id == "poison":
            raise Internal("cannot be resolved")
        return plain_identity(query)

    door.stage.identity.resolve = resolve
    mend(door)
    await door.drained()
    assert door.stage.published() == ["m-0", "m-b", "m-c"]
    (refused,) = read_refused(tmp_path / "spool" / "refused.log")
    assert b"m-poison" in refused.payload
    assert door.counts() == {"received": 4, "accepted": 3, "unanswered": 1, "requests": 4}


async def test_the_next_run_releases_what_is_left(tmp_path: Path) -> None:
    """In order, and before anything new."""
    async with a_door(tmp_path / "spool") as door:
        await shut(door, "m-0")
        for number in range(1, 5):
            await door.send(track(f"m-{number}"))
    async with a_door(tmp_path / "spool") as door:
        assert await door.send(track("m-5")) in ([ACCEPTED], [DEFERRED])
        await door.drained()
        assert door.stage.published() == [f"m-{number}" for number in range(6)]
        assert door.counts() == {"received": 6, "accepted": 6, "requests": 1}


async def test_a_crash_while_it_drains_doubles_nothing(tmp_path: Path) -> None:
    """What was published and not marked as done is found on the topic, and counted once."""
    bus = MemoryBus(delivery_timeout_seconds=0.5)
    database = tmp_path / "gateway.db"
    async with (
        running_stage(bus, await SqliteClaims.open(database)) as stage,
        forwarding(stage, tmp_path / "spool", start=False) as door,
    ):
        stage.identity.script.error = DOWN
        for number in range(5):
            assert await door.send(track(f"m-{number}")) == [DEFERRED]
        stage.identity.script.error = None
        # What a drain that is killed has done: some of the records are on the topic, no position is written.
        for waiting in await door.forward.spool.read(3, 1 << 20):
            await stage.pipeline.submit(release(waiting.kept, 5.0, again=False))
        assert len(stage.published()) == 3
    async with (
        running_stage(bus, await SqliteClaims.open(database)) as stage,
        forwarding(stage, tmp_path / "spool") as door,
    ):
        # A client that was not sure sends again: that is another copy, and counts as one.
        assert await door.send(track("m-4")) in ([DEFERRED], [DUPLICATED])
        await door.drained()
        assert stage.published() == [f"m-{number}" for number in range(5)]
        assert await ledger(stage) == {RECEIVED: 6, PUBLISHED: 5, DUPLICATE: 1}
        assert door.counts() == {"received": 6, "accepted": 5, "duplicate": 1, "requests": 1}


async def test_probes_tell_how_it_stands(door: Door) -> None:
    """A gateway with a spool that is not full takes events, whatever is down."""
    router = Router()
    add_health_routes(router, lambda: ["identity"], door.forward.status)
    await shut(door)
    probe = Request("GET", "/readyz", "", Headers([]), b"", "", 0)
    answer = await router.handle(probe)
    told = json.loads(answer.body)
    assert (answer.status, told["status"], told["missing"]) == (200, "ready", ["identity"])
    assert (told["spool"]["state"], told["spool"]["events"], told["spool"]["full"]) == ("shut", 1, False)
    assert told["spool"]["bytes"] > 0


async def test_a_client_that_goes_away_takes_nothing_back(door: Door) -> None:
    """Its request is under way to the disk, and is published like the others."""
    await shut(door, "m-0")
    leaving = asyncio.create_task(door.send(track("m-1")))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    mend(door)
    await door.drained()
    assert door.stage.published() == ["m-0", "m-1"]


async def test_a_refused_event_of_a_request_that_kafka_had_is_filed_again(door: Door) -> None:
    """As decision 12 says: the copies differ in nothing that tells them, are counted as received each, and balance."""
    door.stage.bus.lose_answers()
    assert await door.send(track("m-1"), {"type": "shrug", "messageId": "r"}) == [DEFERRED, DEFERRED]
    door.stage.bus.lose_answers(False)
    await door.drained()
    assert door.stage.published() == ["m-1"]
    filed = [FailedEvent.FromString(record.value[6:]) for record in door.stage.bus.read("clew.events.failed.v1")]
    assert len(filed) == 2
    assert len({(each.message_id, each.received_time.ToNanoseconds(), each.index) for each in filed}) == 1
    assert await ledger(door.stage) == {RECEIVED: 3, PUBLISHED: 1, BAD_TYPE: 2}
    assert door.counts() == {"received": 2, "accepted": 1, "rejected": 1, "requests": 1}


class _Meeting(_GoesOn):
    """A pipeline whose answer meets something else in one turn of the loop."""

    def __init__(self, pipeline: Carrier, other: Callable[[], None], *, first: bool) -> None:
        super().__init__(pipeline)
        self._other = other
        self._first = first

    def begin(self, submission: Submission, done: Done) -> Abandon:
        """Let the other come first or last."""

        def end(error: BaseException | None) -> None:
            if self._first:
                self._other()
            tell(error)
            if not self._first:
                self._other()

        tell, abandon = _unless_abandoned(done)
        self._pipeline.begin(submission, end)
        return abandon


async def test_what_was_carried_is_not_kept_again_when_its_neighbour_fails(tmp_path: Path) -> None:
    """Of one batch Kafka refuses one request and takes the other, in one turn of the loop: each has one fate."""
    async with a_door(tmp_path / "spool", patience=5.0) as door:
        door.stage.bus.fail_when(lambda record: "full" if ("clew-message-id", b"bad") in record.headers else None)
        bad, good = (
            asyncio.create_task(door.send(track("bad"))),
            asyncio.create_task(door.send(track("good"), {"type": "shrug", "messageId": "r"})),
        )
        assert [await bad, await good] == [[DEFERRED], [ACCEPTED, REJECTED]]
        assert door.forward.spool.events == 1
        assert door.counts() == {"received": 3, "accepted": 1, "rejected": 1, "deferred": 1, "requests": 2}
        door.stage.bus.fail_when(lambda _: None)
        await door.drained()
        assert sorted(door.stage.published()) == ["bad", "good"]
        assert len(door.stage.bus.read("clew.events.failed.v1")) == 1
        assert door.counts() == {"received": 3, "accepted": 2, "rejected": 1, "requests": 2}
        assert await ledger(door.stage) == {RECEIVED: 3, PUBLISHED: 2, BAD_TYPE: 1}


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
async def test_patience_that_ends_with_the_answer_changes_nothing(tmp_path: Path, first: bool) -> None:
    """The request was carried or is kept, whichever came first in that turn of the loop, and never both."""
    async with a_door(tmp_path / "spool", patience=60.0) as door:
        meeting = _Meeting(door.stage.pipeline, partial(door.forward.carrier.shut, "no answer in time"), first=first)
        door.forward.carrier._pipeline = meeting
        verdicts = await door.send(track("m-1"))
        assert verdicts == ([DEFERRED] if first else [ACCEPTED])
        assert door.forward.spool.events == (1 if first else 0)
        await door.drained()
        assert door.stage.published() == ["m-1"]
        assert door.counts() == {"received": 1, "accepted": 1, "requests": 1}
        assert await ledger(door.stage) == {RECEIVED: 1, PUBLISHED: 1}


@pytest.mark.parametrize("fails", [False, True], ids=["written", "not_written"])
async def test_a_client_that_leaves_while_its_request_is_kept(
    door: Door, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """It is deferred, for it will be published; when the disk then fails, it was not answered. No count is negative."""
    await shut(door, "m-0")
    going_on, sync = threading.Event(), os.fdatasync

    def wait(file: int) -> None:
        assert going_on.wait(10.0)
        if fails:
            raise OSError(28, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr("gateway.spool.log.os.fdatasync", wait)
        leaving = asyncio.create_task(door.send(track("m-1")))
        await eventually(lambda: door.forward.spool.events == 2)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert door.counts() == {"received": 2, "deferred": 2, "requests": 2}
        going_on.set()
        lost = {"deferred": 1, "unanswered": 1} if fails else {"deferred": 2}
        await eventually(lambda: door.counts() == {"received": 2, "requests": 2, **lost})
        await door.forward.spool.settled()
    mend(door)
    await door.drained()
    assert door.stage.published() == (["m-0"] if fails else ["m-0", "m-1"])
    lost = {"accepted": 1, "unanswered": 1} if fails else {"accepted": 2}
    assert door.counts() == {"received": 2, "requests": 2, **lost}


async def test_a_client_that_leaves_as_its_request_is_taken_out_of_the_pipeline_is_deferred(door: Door) -> None:
    """It is in the spool from that moment on, though nothing of it has run since."""
    door.stage.identity.script.gate.clear()
    leaving = asyncio.create_task(door.send(track("m-1")))
    await eventually(lambda: bool(door.stage.identity.script.requests))
    door.forward.carrier.shut("a neighbour failed")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert door.counts() == {"received": 1, "deferred": 1, "requests": 1}
    door.stage.identity.script.gate.set()
    await door.drained()
    assert door.stage.published() == ["m-1"]
    assert door.counts() == {"received": 1, "accepted": 1, "requests": 1}


async def test_a_client_that_leaves_the_pipeline_is_not_kept(door: Door) -> None:
    """Also when all that is in it is kept in the same turn of the loop."""
    door.stage.identity.script.gate.clear()
    leaving = asyncio.create_task(door.send(track("m-1")))
    await eventually(lambda: bool(door.stage.identity.script.requests))
    leaving.cancel()
    asyncio.get_running_loop().call_soon(door.forward.carrier.shut, "a neighbour failed")
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0)
    assert door.forward.spool.events == 0
    assert door.counts() == {"received": 1, "unanswered": 1, "requests": 1}
