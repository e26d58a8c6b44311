"""What every store of claims promises, checked on SQLite and on PostgreSQL."""

import itertools
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.claims.keys import message_key, source_prefix
from gateway.claims.limits import Limits
from gateway.claims.port import Changes, ClaimStore, Found, Held, LedgerQuery
from gateway.ledger.tally import DUPLICATE, PUBLISHED, RECEIVED, Cell, Tally, add
from mesh.errors import StorageUnavailable
from tests.gateway.claims.stores import Clock, Shelf, opened

ALL = LedgerQuery("", "", 0, 1 << 40, per_minute=False)
LOWS = {("events", 0): 5, ("events", 1): 0}
HOUR = 3_600


def key(number: int) -> bytes:
    """The key of a message."""
    return message_key(source_prefix("shop", "web"), f"m-{number}")


def keys(count: int, first: int = 0) -> list[bytes]:
    """The keys of several messages."""
    return [key(number) for number in range(first, first + count)]


def cell(outcome: int = PUBLISHED, *, source: str = "web", minute: int = 30_000_000) -> Cell:
    """A place of the ledger."""
    return Cell("shop", source, minute, outcome)


_NUMBERS = itertools.count(1)


def changes(**fields: Any) -> Changes:
    """A group of changes with a number of its own, at the same place of the topics."""
    return Changes(number=next(_NUMBERS), lows=LOWS, cluster="c-1", **fields)


async def begin(store: ClaimStore) -> None:
    """Enter among the gateways."""
    await store.renew(LOWS, "c-1")


async def publish(store: ClaimStore, published: list[bytes]) -> None:
    """Claim and settle."""
    assert await store.claim(published) == {}
    await store.apply(changes(published=published))


def tally(*cells: tuple[Cell, int]) -> Tally:
    """Counts, received included."""
    counts: Tally = {}
    for place, count in cells:
        add(counts, place, count)
    return counts


async def test_a_message_is_claimed_until_it_is_published_and_published_from_then_on(
    shelf: Shelf, clock: Clock
) -> None:
    """Its own claims a gateway gets again; what is published nobody gets."""
    async with opened(shelf, clock) as store:
        await begin(store)
        assert await store.claim(keys(3)) == {}
        assert await store.claim(keys(3)) == {}
        await store.apply(changes(published=keys(2)))
        assert await store.claim(keys(4)) == {key(0): Held.PUBLISHED, key(1): Held.PUBLISHED}


async def test_a_look_tells_what_is_published_and_claims_nothing(shelf: Shelf, clock: Clock) -> None:
    """What it finds free is so for everybody, and what has left the window is free."""
    async with opened(shelf, clock, Limits(window_hours=30.0)) as store:
        await begin(store)
        await publish(store, keys(2))
        assert await store.look(keys(4)) == dict.fromkeys(keys(2), Held.PUBLISHED)
        if store.keeps_claims:
            assert await rows(store) == 2
        clock.seconds += 30 * HOUR
        assert await store.look(keys(4)) == {}


async def test_many_keys_are_one_question(shelf: Shelf, clock: Clock) -> None:
    """The largest batch there is, the last of its keys included; none at all is fine too."""
    async with opened(shelf, clock) as store:
        await begin(store)
        await publish(store, keys(2_500))
        assert set(await store.claim(keys(3_000))) == set(keys(2_500))
        assert await store.claim([]) == {}
        await store.apply(changes())


async def test_what_is_published_is_known_after_a_restart(shelf: Shelf, clock: Clock) -> None:
    """Durable once `apply` has returned, however the process ended."""
    store = await shelf.open(clock)
    await begin(store)
    await publish(store, keys(3))
    await shelf.crash(store)
    async with opened(shelf, clock) as again:
        await begin(again)
        assert await again.claim(keys(4)) == dict.fromkeys(keys(3), Held.PUBLISHED)


async def test_a_message_is_forgotten_after_the_window(shelf: Shelf, clock: Clock) -> None:
    """Not a second earlier; published again, it is remembered for another window."""
    async with opened(shelf, clock, Limits(window_hours=30.0)) as store:
        await begin(store)
        await publish(store, keys(1))
        clock.seconds += 30 * HOUR - 1
        assert await store.claim(keys(1)) == {key(0): Held.PUBLISHED}
        clock.seconds += 1
        await publish(store, keys(1))
        clock.seconds += 30 * HOUR - 1
        assert await store.claim(keys(1)) == {key(0): Held.PUBLISHED}


async def test_a_released_message_may_be_claimed_by_the_next_run(shelf: Shelf, clock: Clock) -> None:
    """It is on no topic."""
    async with opened(shelf, clock) as store:
        await begin(store)
        await store.claim(keys(2))
        await store.apply(changes(released=keys(2)))
        assert await store.claim(keys(2)) == {}


async def test_counts_add_up_and_can_be_asked_for_by_minute_source_and_workspace(shelf: Shelf, clock: Clock) -> None:
    """The end of a range is not part of it; without minutes all of them are one."""
    first, second, other = cell(minute=29_999_990), cell(minute=29_999_991), cell(source="app", minute=29_999_991)
    async with opened(shelf, clock) as store:
        await begin(store)
        for _ in range(2):
            counts = tally((first, 2), (second, 1), (other, 5), (first._replace(outcome=DUPLICATE), 1))
            await store.apply(changes(tally=counts))
        by_minute = await store.ledger(LedgerQuery("shop", "web", 29_999_990, 29_999_992, per_minute=True))
        assert by_minute == {
            first: 4,
            first._replace(outcome=RECEIVED): 6,
            first._replace(outcome=DUPLICATE): 2,
            second: 2,
            second._replace(outcome=RECEIVED): 2,
        }
        total = await store.ledger(LedgerQuery("", "", 29_999_990, 29_999_991, per_minute=False))
        assert total == {
            cell(minute=0): 4,
            cell(DUPLICATE, minute=0): 2,
            cell(RECEIVED, minute=0): 6,
        }
        assert await store.ledger(LedgerQuery("blog", "", 0, 1 << 40, per_minute=True)) == {}


async def test_an_ended_gateway_leaves_where_its_records_begin(shelf: Shelf, clock: Clock) -> None:
    """The offsets and the cluster that it said last; a new gateway's own are not among the unfinished."""
    store = await shelf.open(clock)
    assert [each for each in await store.unfinished() if each.lows is not None] == []
    await begin(store)
    assert await store.unfinished() == []
    await shelf.crash(store)
    async with opened(shelf, clock) as again:
        (unfinished,) = await again.unfinished()
        assert (unfinished.owner, unfinished.cluster, unfinished.lows) == (store.owner, "c-1", LOWS)
        await again.settle(unfinished.owner)
        await begin(again)
        assert await again.unfinished() == []


async def test_recovered_records_are_counted_once_however_often_they_are_told(shelf: Shelf, clock: Clock) -> None:
    """Those that were settled before are not; a record twice in one telling counts once."""
    store = await shelf.open(clock)
    await begin(store)
    await store.claim(keys(3))
    await store.apply(changes(published=keys(1), tally=tally((cell(), 1))))
    await shelf.crash(store)
    async with opened(shelf, clock) as again:
        found = [Found(each, cell()) for each in (*keys(2), *keys(2))]
        refused = Found(key(99), cell(1_007))
        news = []
        for _ in range(2):
            (unfinished,) = await again.unfinished()
            news.append(await again.recover(unfinished.owner, [*found, refused]))
        await again.settle(store.owner)
        await begin(again)
        assert news == [2, 0]
        assert await again.claim(keys(3)) == dict.fromkeys(keys(2), Held.PUBLISHED)
        assert await again.ledger(ALL) == {
            cell(minute=0): 2,
            cell(RECEIVED, minute=0): 3,
            cell(1_007, minute=0): 1,
        }


async def test_another_cluster_has_none_of_the_messages(shelf: Shelf, clock: Clock) -> None:
    """Messages are forgotten, counts are not: those events were received and published."""
    async with opened(shelf, clock) as store:
        await begin(store)
        await store.claim(keys(2))
        await store.apply(changes(published=keys(2), tally=tally((cell(), 2))))
        await store.forget("c-2", store.owner)
        assert await store.claim(keys(2)) == {}
        assert (await store.ledger(ALL))[cell(minute=0)] == 2


async def test_a_topic_made_anew_on_the_same_cluster_has_none_of_the_messages(shelf: Shelf, clock: Clock) -> None:
    """Nor is one known after a crash in between: the ended gateway is not settled, and it is done again."""
    store = await shelf.open(clock)
    await begin(store)
    await store.claim(keys(2))
    await store.apply(changes(published=keys(2), tally=tally((cell(), 2))))
    await shelf.crash(store)
    between = await shelf.open(clock)
    (unfinished,) = await between.unfinished()
    await between.forget("c-1", unfinished.owner)
    await shelf.crash(between)
    async with opened(shelf, clock) as again:
        for unfinished in await again.unfinished():
            await again.forget("c-1", unfinished.owner)
            await again.settle(unfinished.owner)
        await begin(again)
        assert await again.look(keys(2)) == {}
        assert (await again.ledger(ALL))[cell(minute=0)] == 2


async def test_old_messages_and_counts_go_in_small_steps(shelf: Shelf, clock: Clock) -> None:
    """While new ones come, and off the request path; in the end hardly any that is out of the window is left."""
    async with opened(shelf, clock, Limits(ledger_days=1)) as store:
        await begin(store)
        await publish(store, keys(1_000))
        old = cell(minute=int(clock.seconds) // 60)
        await store.apply(changes(tally=tally((old, 1))))
        clock.seconds += 25 * HOUR
        for number in range(10):
            await publish(store, keys(100, first=10_000 + 100 * number))
        await store.tidy()
        assert 1_000 <= await rows(store) <= 1_050
        assert await store.ledger(ALL) == {}


async def test_no_more_messages_are_remembered_than_allowed(shelf: Shelf, clock: Clock) -> None:
    """Beyond the bound the oldest are forgotten early: storage is bounded whatever comes."""
    async with opened(shelf, clock, Limits(max_rows=512)) as store:
        await begin(store)
        for number in range(15):
            clock.seconds += 1
            await publish(store, keys(100, first=100 * number))
            await analyze(store)
            await store.tidy()
        # The bound, and what came since each range was visited last.
        assert 400 <= await rows(store) <= 700
        assert set(await store.claim(keys(100, first=1_400))) == set(keys(100, first=1_400))
        # The oldest of each range went first: a range that few came to may keep some a little longer.
        assert len(await store.claim(keys(500))) < 125


async def test_forgetting_early_is_said(shelf: Shelf, clock: Clock) -> None:
    """Once an hour, for it breaks the window's promise; what has left the window makes room first, without a word."""
    async with opened(shelf, clock, Limits(max_rows=512)) as store:
        await begin(store)
        with capture_logs() as logs:
            for number in range(12):
                clock.seconds += 86_400
                await _publish_and_tidy(store, first=100 * number)
        assert logs == []
        with capture_logs() as logs:
            for number in range(12, 24):
                clock.seconds += 60
                await _publish_and_tidy(store, first=100 * number)
        (log,) = logs
        assert (log["log_level"], log["most"], log["window_hours"]) == ("warning", 512, 24.0)


async def _publish_and_tidy(store: ClaimStore, first: int) -> None:
    await publish(store, keys(100, first=first))
    await analyze(store)
    await store.tidy()


async def test_a_closed_store_is_unavailable_and_may_be_closed_again(shelf: Shelf, clock: Clock) -> None:
    """It fails closed."""
    store = await shelf.open(clock)
    await begin(store)
    await store.close(settled=True)
    await store.close(settled=True)
    with pytest.raises(StorageUnavailable):
        await store.claim(keys(1))
    with pytest.raises(StorageUnavailable):
        await store.apply(changes())


async def rows(store: ClaimStore) -> int:
    """How many messages the store holds, those included that have expired."""
    database = store._database  # type: ignore[attr-defined]
    if store.keeps_claims:
        return int((await database.fetch("SELECT count(*) FROM gateway_messages"))[0][0])
    (size, counted) = database.fetch_all("SELECT size, (SELECT count(*) FROM messages) FROM position")[0]
    assert size == counted
    return int(counted) + len(store._staging)  # type: ignore[attr-defined]


async def analyze(store: ClaimStore) -> None:
    """Tell PostgreSQL's planner how many rows there are, as autovacuum does by and by."""
    if store.keeps_claims:
        await store._database.fetch("ANALYZE gateway_messages")  # type: ignore[attr-defined]
