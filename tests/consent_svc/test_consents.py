"""Deciding from memory and recording before memory."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent_svc.consents import Consents, Query, Verdict
from consent_svc.decision import Basis
from consent_svc.errors import DecideTimeRefused, PageTokenRefused
from consent_svc.ledger import Entry, Statement
from consent_svc.purpose import ALL, NONE, PURPOSES, mask_of_names
from consent_svc.store import SqliteConsentStore
from mesh.clock import FixedClock
from mesh.errors import StorageUnavailable
from tests.consent_svc.conftest import POLICY
from tests.consent_svc.watched import WatchedStore

ESSENTIAL, ANALYTICS = mask_of_names(["essential"]), mask_of_names(["analytics"])
UNKNOWN = Verdict(ESSENTIAL, Basis.DEFAULT)


def says(subject: str = "p", *, granted: int = NONE, denied: int = NONE, decide_ns: int | None = None) -> Statement:
    """Make a statement of a person."""
    return Statement("w", subject, granted, denied, "test", "", decide_ns)


async def verdict(consents: Consents, subject: str = "p", *merged: str, **preferences: bool) -> Verdict:
    """Check one person."""
    _, verdicts = await consents.check("w", [Query(subject, merged, preferences)])
    return verdicts[0]


async def test_verdicts_answer_queries_in_order(consents: Consents) -> None:
    """Verdict i answers query i, for known, unknown and repeated subjects."""
    await consents.record(says("a", granted=ANALYTICS))
    await consents.record(says("b", denied=ALL))
    epoch, verdicts = await consents.check("w", [Query(name, (), {}) for name in ("b", "x", "a", "b")])
    assert epoch == 2
    refused, allowed = Verdict(NONE, Basis.RECORDED), Verdict(ESSENTIAL | ANALYTICS, Basis.RECORDED)
    assert verdicts == [refused, UNKNOWN, allowed, refused]


async def test_the_epoch_is_that_of_the_workspace(consents: Consents) -> None:
    """It is 0 in an empty ledger, rises with every entry of anybody there, and not with those elsewhere."""
    assert (await consents.check("w", [Query("p", (), {})]))[0] == 0
    await consents.record(says("somebody else", granted=ANALYTICS))
    assert (await consents.check("w", [Query("p", (), {})]))[0] == 1
    assert (await consents.check("elsewhere", [Query("p", (), {})]))[0] == 0


async def test_a_second_check_needs_no_io(consents: Consents, store: WatchedStore) -> None:
    """Once asked for, a subject is in memory, whether anything is on record for it or not."""
    await consents.record(says("a", granted=ANALYTICS))
    queries = [Query("a", (), {}), Query("nobody", ("merged",), {"Analytics": False})]
    first = await consents.check("w", queries)
    store.calls.clear()
    assert await consents.check("w", queries) == first
    assert store.calls == []


async def test_one_batch_reads_the_ledger_once(consents: Consents, store: WatchedStore) -> None:
    """However many subjects are missing, they are read together."""
    store.calls.clear()
    await consents.check("w", [Query(f"p{number}", (f"m{number}",), {}) for number in range(500)])
    assert store.calls == ["entries_of"]


async def test_a_withdrawal_is_seen_by_every_later_check(consents: Consents) -> None:
    """The check after the return of a record sees it, for a subject in memory and for one that is not."""
    for subject in ("in memory", "not in memory"):
        if subject == "in memory":
            await verdict(consents, subject)
        await consents.record(says(subject, granted=ANALYTICS))
        assert (await verdict(consents, subject)).granted == ESSENTIAL | ANALYTICS
        await consents.record(says(subject, denied=ANALYTICS))
        assert (await verdict(consents, subject)).granted == ESSENTIAL


async def test_memory_learns_of_a_record_only_after_its_commit(consents: Consents, store: WatchedStore) -> None:
    """A check that starts before the commit does not see the record: it may never come to stand."""
    committing, may_go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        committing.set()
        await may_go_on.wait()

    store.before["append"] = hold
    record = asyncio.create_task(consents.record(says(granted=ANALYTICS)))
    await committing.wait()
    assert await verdict(consents) == UNKNOWN
    may_go_on.set()
    await record
    assert (await verdict(consents)).granted == ESSENTIAL | ANALYTICS


async def test_a_caller_that_goes_away_does_not_hide_its_withdrawal(consents: Consents, store: WatchedStore) -> None:
    """A record that was cancelled after it was sent to the ledger stands, and memory knows it."""
    await consents.record(says(granted=ANALYTICS))
    await verdict(consents)
    committed, may_go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        committed.set()
        await may_go_on.wait()

    store.after["append"] = hold
    record = asyncio.create_task(consents.record(says(denied=ANALYTICS)))
    await committed.wait()
    record.cancel()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await record
    await consents.close()
    assert (await verdict(consents)).granted == ESSENTIAL


async def test_a_read_that_a_withdrawal_overtakes_does_not_cover_it(consents: Consents, store: WatchedStore) -> None:
    """A check that read the ledger before a withdrawal, and ends after it, leaves nothing old in memory."""
    await consents.record(says(granted=ANALYTICS))
    read, may_go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        read.set()
        await may_go_on.wait()

    store.after["entries_of"] = hold
    early = asyncio.create_task(verdict(consents))
    await read.wait()
    await consents.record(says(denied=ANALYTICS))
    may_go_on.set()
    await early
    assert (await verdict(consents)).granted == ESSENTIAL


async def test_a_commit_of_unknown_outcome_is_looked_up(consents: Consents, store: WatchedStore) -> None:
    """When the ledger fails after the commit, the next check reads what stands instead of trusting memory."""
    await consents.record(says(granted=ANALYTICS))
    await verdict(consents)

    async def fail() -> None:
        raise StorageUnavailable("lost the answer")

    store.after["append"] = fail
    with pytest.raises(StorageUnavailable):
        await consents.record(says(denied=ANALYTICS))
    del store.after["append"]
    epoch, verdicts = await consents.check("w", [Query("p", (), {})])
    assert (epoch, verdicts[0].granted) == (2, ESSENTIAL)
    await consents.record(says(granted=ANALYTICS))
    assert (await consents.check("w", [Query("p", (), {})]))[0] == 3


async def test_what_cannot_be_read_is_refused(consents: Consents, store: WatchedStore) -> None:
    """A subject that is not in memory fails with the ledger; nothing is guessed, and nothing wrong is remembered."""
    await verdict(consents, "in memory")

    async def fail() -> None:
        raise StorageUnavailable("disk gone")

    store.before["entries_of"] = fail
    with pytest.raises(StorageUnavailable):
        await verdict(consents, "unknown")
    assert await verdict(consents, "in memory") == UNKNOWN
    store.before.clear()
    assert await verdict(consents, "unknown") == UNKNOWN


async def test_doubt_lasts_until_the_ledger_answers(consents: Consents, store: WatchedStore) -> None:
    """While it is unknown what stands, every check is refused, those of subjects in memory too."""
    await verdict(consents)

    async def fail() -> None:
        raise StorageUnavailable("disk gone")

    store.before.update(append=fail, last_epochs=fail)
    with pytest.raises(StorageUnavailable):
        await consents.record(says(denied=ALL))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await verdict(consents)
    store.before.clear()
    assert await verdict(consents) == UNKNOWN


async def test_merged_subjects_count(consents: Consents, clock: FixedClock) -> None:
    """The newest choice under any of a person's subjects wins; at the same instant the refusal does."""
    await consents.record(says("old", denied=ANALYTICS))
    assert (await verdict(consents, "p", "old")).granted == ESSENTIAL
    clock.advance(1)
    await consents.record(says("p", granted=ANALYTICS))
    assert (await verdict(consents, "p", "old")).granted == ESSENTIAL | ANALYTICS
    await consents.record(says("older", denied=ANALYTICS))
    assert (await verdict(consents, "p", "old", "older")).granted == ESSENTIAL
    assert (await verdict(consents, "p")).granted == ESSENTIAL | ANALYTICS


async def test_preferences_restrict_what_is_on_record(consents: Consents) -> None:
    """A category that is false takes its purposes from this decision; one that is true brings none."""
    await consents.record(says(granted=ALL))
    assert await verdict(consents, Analytics=False) == Verdict(ALL & ~ANALYTICS, Basis.RESTRICTED)
    assert await verdict(consents, Nonsense=False) == Verdict(NONE, Basis.RESTRICTED)
    assert await verdict(consents, "stranger", Analytics=True, Advertising=True) == UNKNOWN


async def test_a_choice_made_in_the_future_is_refused(
    consents: Consents, clock: FixedClock, store: WatchedStore
) -> None:
    """It is refused before anything is written."""
    with pytest.raises(DecideTimeRefused):
        await consents.record(says(granted=ALL, decide_ns=clock.now_ns() + 61 * 10**9))
    assert "append" not in store.calls


async def test_history_is_paged_to_its_end(consents: Consents) -> None:
    """Pages follow each other without a gap or a repetition, also when entries are added meanwhile."""
    for _ in range(5):
        await consents.record(says(granted=ANALYTICS))
    first = await consents.history("w", "p", 2, "")
    await consents.record(says(denied=ANALYTICS))
    second = await consents.history("w", "p", 2, first.next_token)
    last = await consents.history("w", "p", 2, second.next_token)
    assert [entry.epoch for page in (first, second, last) for entry in page.entries] == [5, 4, 3, 2, 1]
    assert last.next_token == ""


async def test_a_page_that_ends_the_history_has_no_token(consents: Consents) -> None:
    """A full last page is not followed by an empty one; a history without entries is one empty page."""
    await consents.record(says(granted=ANALYTICS))
    assert (await consents.history("w", "p", 1, "")).next_token == ""
    assert await consents.history("w", "nobody", 1, "") == await consents.history("w", "no one", 1, "")
    with pytest.raises(PageTokenRefused):
        await consents.history("w", "p", 1, "made up")


@pytest.mark.parametrize("told", [True, False])
async def test_a_withdrawal_holds_although_our_clock_was_once_ahead(
    consents: Consents, clock: FixedClock, told: bool
) -> None:
    """What was recorded by a clock a year ahead, or after it was set right, ends with the withdrawal after it."""
    year = 365 * 24 * 3600
    clock.advance(year)
    await consents.record(says("then", granted=ANALYTICS))
    clock.advance(-year)
    await consents.record(says("since", granted=ANALYTICS))
    clock.advance(60)
    for subject in ("then", "since"):
        await consents.record(says(subject, denied=ANALYTICS, decide_ns=clock.now_ns() - 5 * 10**9 if told else None))
        assert (await verdict(consents, subject)).granted == ESSENTIAL
        clock.advance(60)
        await consents.record(says(subject, granted=ANALYTICS))
        assert (await verdict(consents, subject)).granted == ESSENTIAL | ANALYTICS


subjects = st.sampled_from("abc")
purposes = st.sets(st.sampled_from(PURPOSES)).map(lambda numbers: sum(1 << number for number in numbers))
steps = st.one_of(
    st.tuples(st.just("record"), subjects, purposes, purposes, st.none() | st.integers(-100, 60)),
    st.tuples(st.just("check"), subjects, purposes, purposes, st.none()),
    st.tuples(st.just("pass"), subjects, purposes, purposes, st.none() | st.integers(-3, 3)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=12))
def test_memory_equals_the_ledger(script: list[tuple[str, str, int, int, int | None]]) -> None:
    """After any sequence, what the process has in memory decides exactly like one that reads the ledger afresh."""

    async def run() -> None:
        clock = FixedClock()
        store = SqliteConsentStore.open(None)
        running = await Consents.start(store, clock, POLICY, cache_size=2)
        for step, subject, granted, denied, seconds in script:
            if step == "record" and granted | denied:
                decide_ns = None if seconds is None else clock.now_ns() + seconds * 10**9
                await running.record(says(subject, granted=granted & ~denied, denied=denied, decide_ns=decide_ns))
            elif step == "check":
                await verdict(running, subject)
            elif step == "pass":
                clock.advance(seconds or 0)
        everyone = [Query(name, merged, {}) for name in "abc" for merged in ((), ("a", "b", "c"))]
        fresh = await Consents.start(store, clock, POLICY, cache_size=100)
        assert await running.check("w", everyone) == await fresh.check("w", everyone)
        await store.close()

    asyncio.run(run())


async def test_concurrent_records_all_stand(consents: Consents, store: WatchedStore) -> None:
    """Records that are committed together all count, and the epoch ends at the last of them."""
    await consents.check("w", [Query(f"p{number % 7}", (), {}) for number in range(7)])
    entries: list[Entry] = await asyncio.gather(
        *(consents.record(says(f"p{number % 7}", denied=ALL)) for number in range(200))
    )
    assert {entry.epoch for entry in entries} == set(range(1, 201))
    epoch, verdicts = await consents.check("w", [Query(f"p{number}", (), {}) for number in range(7)])
    assert epoch == 200
    assert {each.granted for each in verdicts} == {NONE}


async def test_a_restart_reads_what_was_recorded(tmp_path: Path, clock: FixedClock) -> None:
    """A new process decides by the ledger that the old one left, from its epoch on."""
    for expected in (1, 2):
        store = SqliteConsentStore.open(tmp_path / "restart.db")
        consents = await Consents.start(store, clock, POLICY, cache_size=10)
        await consents.record(says(denied=ESSENTIAL))
        epoch, verdicts = await consents.check("w", [Query("p", (), {})])
        assert (epoch, verdicts) == (expected, [Verdict(NONE, Basis.RECORDED)])
        await store.close()
