"""Several gateways on one PostgreSQL: a message is one gateway's at a time, and a dead one's claims are settled."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest

from gateway.claims import following as module
from gateway.claims import postgres, postgres_sql
from gateway.claims.errors import LeaseLost
from gateway.claims.limits import Limits
from gateway.claims.port import Held
from gateway.claims.postgres import PostgresClaims
from gateway.ledger.tally import DUPLICATE, PUBLISHED, RECEIVED
from mesh.bus.memory import MemoryBus
from mesh.bus.port import Offsets
from mesh.errors import BusUnavailable, StorageUnavailable
from tests.gateway.claims.stores import expire, until_waiting
from tests.gateway.claims.test_claims import ACCEPTED, COPY, ledger, refused, request, send, track
from tests.gateway.claims.test_store import ALL, LOWS, begin, cell, changes, keys, tally
from tests.gateway.scripted import Stage, running_stage
from tests.mesh.rpc import eventually


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two gateways over one topic."""
    bus = MemoryBus()
    async with AsyncExitStack() as stack:
        stages = [
            await stack.enter_async_context(running_stage(bus, await PostgresClaims.open(postgres_url, Limits())))
            for _ in range(2)
        ]
        yield stages[0], stages[1]


def store_of(stage: Stage) -> PostgresClaims:
    """The gateway's store."""
    store = stage.claims.store
    assert isinstance(store, PostgresClaims)
    return store


def freeze(stage: Stage) -> None:
    """Stop a gateway from saying anything more, as a crash or a pause does."""
    stage.claims.journal._stopped = True
    for task in stage.recovery._tasks:
        task.cancel()


async def test_a_message_is_published_by_one_of_two_gateways(pair: tuple[Stage, Stage]) -> None:
    """Copies that arrive at both at the same time: one is published, the others are duplicates."""
    answers = await asyncio.gather(*(send(pair[n % 2], track(f"m-{n // 4}")) for n in range(80)))
    assert sorted(answer[0] for answer in answers) == sorted([ACCEPTED] * 20 + [COPY] * 60)
    assert len(pair[0].published()) == len(set(pair[0].published())) == 20
    await ledger(pair[0])
    assert await ledger(pair[1]) == {RECEIVED: 80, PUBLISHED: 20, DUPLICATE: 60}


async def test_a_copy_waits_a_little_for_another_gateway_and_is_then_told_to_come_again(
    pair: tuple[Stage, Stage],
) -> None:
    """What the other one holds is never published beside it; once it has an outcome, the retry learns it."""
    first, second = pair
    first.consent.script.gate.clear()
    held = asyncio.create_task(send(first, track("m-1")))
    await eventually(lambda: first.consent.script.requests)
    assert isinstance(await refused(second, track("m-1")), BusUnavailable)
    first.consent.script.gate.set()
    assert await held == [ACCEPTED]
    assert await send(second, track("m-1")) == [COPY]


async def test_a_copy_takes_over_what_another_gateway_released(pair: tuple[Stage, Stage]) -> None:
    """The first one failed before Kafka had it: the second publishes it within the time that it waits."""
    first, second = pair
    first.consent.script.gate.clear()
    held = asyncio.create_task(send(first, track("m-1")))
    await eventually(lambda: first.consent.script.requests)
    copy = asyncio.create_task(send(second, track("m-1")))
    first.consent.script.error = StorageUnavailable()
    first.consent.script.gate.set()
    assert isinstance((await asyncio.gather(held, return_exceptions=True))[0], StorageUnavailable)
    assert await copy == [ACCEPTED]
    assert second.published() == ["m-1"]


async def test_a_copy_whose_client_leaves_keeps_nothing(
    pair: tuple[Stage, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves while the store is asked about what the other gateway gave up: whoever sends that next publishes it."""
    first, second = pair
    first.consent.script.gate.clear()
    held = asyncio.create_task(send(first, track("m-1")))
    await eventually(lambda: first.consent.script.requests)
    look, waits = store_of(second).look, asyncio.Event()

    async def leaving(asked: Sequence[bytes]) -> Mapping[bytes, Held]:
        waits.set()
        if not await look(asked):
            asyncio.get_running_loop().call_soon(copy.cancel)
        return await look(asked)

    monkeypatch.setattr(store_of(second), "look", leaving)
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 5.0)
    copy = asyncio.create_task(send(second, track("m-1")))
    await asyncio.wait_for(waits.wait(), 5)
    first.consent.script.error = StorageUnavailable()
    first.consent.script.gate.set()
    await asyncio.gather(held, copy, return_exceptions=True)
    assert copy.cancelled()
    first.consent.script.error = None
    await eventually(lambda: second.claims.settled and not second.claims.journal.pending)
    assert await send(first, track("m-1")) == [ACCEPTED]


async def test_a_copy_that_is_out_of_tries_keeps_nothing(
    pair: tuple[Stage, Stage], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gateway gave the message up, took it again before the copy could, and gave it up again."""
    first, second = pair
    (message,) = keys(1, first=1)
    other = await PostgresClaims.open(postgres_url, Limits())
    await other.renew({}, "memory")
    await other.claim([message])
    look, looks = store_of(second).look, itertools.count()

    async def meddling(asked: Sequence[bytes]) -> Mapping[bytes, Held]:
        await other.apply(changes(released=[message]))
        found = await look(asked)
        if next(looks) == 0:
            await other.claim([message])
        return found

    monkeypatch.setattr(store_of(second), "look", meddling)
    assert isinstance(await refused(second, track("m-1")), BusUnavailable)
    assert next(looks) == 2
    assert await send(first, track("m-1")) == [ACCEPTED]
    await other.close(settled=True)


async def test_a_claim_that_is_cancelled_twice_leaves_nothing(pair: tuple[Stage, Stage], postgres_url: str) -> None:
    """Its client leaves, then its time is over, and only then the statement gets the lock that it waits for."""
    first, second = pair
    (message,) = keys(1, first=1)
    blocker = await asyncpg.connect(postgres_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("INSERT INTO gateway_messages (key, owner, expires) VALUES ($1, 'x', 9999999999)", message)
    sent = asyncio.create_task(first.pipeline.submit(request(track("m-1"), seconds=1.0)))
    await until_waiting(blocker)
    sent.cancel()
    await asyncio.sleep(1.2)
    await transaction.rollback()
    await blocker.close()
    await eventually(lambda: first.claims.settled and not first.claims.journal.pending)
    assert await send(second, track("m-1")) == [ACCEPTED]


async def test_what_a_dead_gateway_published_and_claimed_is_settled_by_another(pair: tuple[Stage, Stage]) -> None:
    """Its records are counted from the topic, each once; what it had claimed and not published may be claimed again."""
    first, second = pair
    assert await send(first, track("m-0")) == [ACCEPTED]
    await first.claims.journal.kept()
    freeze(first)
    assert await send(first, track("m-1"), {"type": "nonsense"}) == [ACCEPTED, 3]
    await store_of(first).claim(keys(1, first=900))
    assert await store_of(second).claim(keys(1, first=900)) == {keys(1, first=900)[0]: Held.ELSEWHERE}
    await expire(store_of(first))
    await second.recovery.settle_others()
    assert await send(second, track("m-0"), track("m-1")) == [COPY, COPY]
    assert second.published() == ["m-0", "m-1"]
    assert await store_of(second).claim(keys(1, first=900)) == {}
    counts = await ledger(second)
    assert (counts[RECEIVED], counts[PUBLISHED], counts[DUPLICATE]) == (5, 2, 2)


async def test_a_beat_does_not_skip_what_is_published_and_not_written_down(pair: tuple[Stage, Stage]) -> None:
    """Where the others have to read from, should it end now, is before what only its memory knows."""
    first, second = pair
    freeze(first)
    assert await send(first, track("m-1")) == [ACCEPTED]
    cluster, lows = first.claims.durable_position()
    await store_of(first).renew(lows, cluster)
    await expire(store_of(first))
    await second.recovery.settle_others()
    assert await send(second, track("m-1")) == [COPY]
    assert await ledger(second) == {RECEIVED: 2, PUBLISHED: 1, DUPLICATE: 1}


async def test_a_gateway_that_was_taken_for_dead_publishes_and_settles_nothing_more(
    pair: tuple[Stage, Stage],
) -> None:
    """It learns so from the store, gives up, and its process ends: only one started anew may go on."""
    first, second = pair
    assert await send(first, track("m-1")) == [ACCEPTED]
    await first.claims.journal.kept()
    for task in first.recovery._tasks:
        task.cancel()
    await expire(store_of(first))
    await second.recovery.settle_others()
    assert isinstance(await refused(first, track("m-2")), LeaseLost)
    with pytest.raises(LeaseLost):
        await store_of(first).apply(changes(published=keys(1)))
    with pytest.raises(LeaseLost):
        await store_of(first).renew(LOWS, "memory")
    first.recovery.start()
    await eventually(lambda: first.claims._lost)
    assert isinstance(await refused(first, track("m-2")), BusUnavailable)
    assert await send(second, track("m-2")) == [ACCEPTED]
    assert second.published() == ["m-1", "m-2"]


async def test_a_gateway_stops_publishing_before_the_others_can_take_it_for_dead(
    pair: tuple[Stage, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own clock, whatever the store says: a process that was paused notices before it hands over a record."""
    first, _ = pair
    store_of(first)._valid_until = 0.0
    monkeypatch.setattr(store_of(first), "renew", lambda *_: asyncio.sleep(0))
    assert isinstance(await refused(first, track("m-1")), StorageUnavailable)
    assert first.published() == []


async def test_a_gateway_lives_on_while_kafka_is_away_and_another_one_is_to_be_settled(
    pair: tuple[Stage, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beat does not wait for the topics: an outage of Kafka must not look like the death of every gateway."""
    first, second = pair
    second.bus.stop()
    freeze(first)
    await expire(store_of(first))
    with pytest.raises(BusUnavailable):
        await second.recovery.settle_others()
    renewed = asyncio.Event()
    renew = store_of(second).renew

    async def noting(lows: Offsets, cluster: str) -> None:
        await renew(lows, cluster)
        renewed.set()

    monkeypatch.setattr(store_of(second), "renew", noting)
    async with asyncio.timeout(5):
        await renewed.wait()
    assert store_of(second).may_publish()
    second.bus.start()
    await second.recovery.settle_others()


async def test_two_gateways_that_settle_a_third_count_it_once(postgres_url: str) -> None:
    """Both may find it dead at the same moment."""
    bus = MemoryBus()
    async with AsyncExitStack() as stack:
        stages = [
            await stack.enter_async_context(running_stage(bus, await PostgresClaims.open(postgres_url, Limits())))
            for _ in range(3)
        ]
        dead, *others = stages
        freeze(dead)
        assert await send(dead, *(track(f"m-{number}") for number in range(50))) == [ACCEPTED] * 50
        await expire(store_of(dead))
        await asyncio.gather(*(other.recovery.settle_others() for other in others))
        assert await ledger(others[0]) == {RECEIVED: 50, PUBLISHED: 50}
        assert await send(others[1], track("m-7")) == [COPY]


async def test_a_gateway_that_ends_in_order_leaves_nothing_to_settle(postgres_url: str) -> None:
    """Its lease and its claims are gone with it."""
    store = await PostgresClaims.open(postgres_url, Limits())
    await begin(store)
    await store.claim(keys(2))
    await store.close(settled=True)
    other = await PostgresClaims.open(postgres_url, Limits())
    await begin(other)
    assert [tuple(row) for row in await other._database.fetch("SELECT owner FROM gateways")] == [(other.owner,)]
    assert await other.claim(keys(2)) == {}
    await other.close(settled=True)


async def test_a_crash_while_messages_are_forgotten_leaves_it_to_the_next_start(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small steps, the cluster noted last: no message of a lost topic is taken for one that is on Kafka."""
    monkeypatch.setattr(postgres, "_STEP", 2)
    stores = [await PostgresClaims.open(postgres_url, Limits()) for _ in range(3)]
    before, crashing, after = stores
    await before.renew({}, "old")
    known = sorted(keys(9))
    await before.claim(known)
    await before.apply(changes(published=known))
    blocker = await asyncpg.connect(postgres_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT key FROM gateway_messages WHERE key = $1 FOR UPDATE", known[5])
    start = asyncio.create_task(crashing.renew({}, "new"))
    await until_waiting(blocker)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await transaction.rollback()
    await blocker.close()
    assert await crashing.look(known) == dict.fromkeys(known[4:], Held.PUBLISHED)
    await after.renew({}, "new")
    assert await after.claim(known) == {}
    for store in stores:
        await store.close(settled=False)


async def test_what_is_published_on_the_new_topics_is_not_forgotten_by_gateways_that_come_later(
    postgres_url: str,
) -> None:
    """For another cluster it is done once; for a topic made anew until the gateway that wrote to it is settled."""
    ended, first, later = [await PostgresClaims.open(postgres_url, Limits()) for _ in range(3)]
    await ended.renew({}, "old")
    await first.renew({}, "new")
    await first.claim(keys(1))
    await first.apply(changes(published=keys(1)))
    await later.forget("new", ended.owner)
    await later.renew({}, "new")
    assert await later.look(keys(1)) == dict.fromkeys(keys(1), Held.PUBLISHED)
    await later.settle(first.owner)
    await later.forget("new", first.owner)
    assert await later.look(keys(1)) == dict.fromkeys(keys(1), Held.PUBLISHED)
    for store in (ended, first, later):
        await store.close(settled=False)


async def test_gateways_that_count_at_the_same_time_lose_and_double_nothing(postgres_url: str) -> None:
    """They add to the same cells in one order, so that none waits for ever."""
    stores = [await PostgresClaims.open(postgres_url, Limits()) for _ in range(3)]
    for store in stores:
        await begin(store)

    async def count(store: PostgresClaims) -> None:
        for _ in range(20):
            await store.apply(changes(tally=tally((cell(), 1), (cell(source="app"), 2))))

    await asyncio.gather(*map(count, stores))
    counts = await stores[0].ledger(ALL)
    assert (counts[cell(minute=0)], counts[cell(source="app", minute=0)]) == (60, 120)
    for store in stores:
        await store.close(settled=True)


async def test_a_group_that_met_the_death_of_its_gateway_is_not_written(postgres_url: str) -> None:
    """It waits while another gateway marks this one dead, and says so: nobody is answered as if it were counted."""
    store = await PostgresClaims.open(postgres_url, Limits())
    await begin(store)
    await expire(store)
    other = await asyncpg.connect(postgres_url)
    transaction = other.transaction()
    await transaction.start()
    assert len(await other.fetch(postgres_sql.UNFINISHED, "other", 1.0)) == 1
    applying = asyncio.create_task(store.apply(changes(tally=tally((cell(), 1)))))
    await until_waiting(other)
    await transaction.commit()
    with pytest.raises(LeaseLost):
        await applying
    assert await store.ledger(ALL) == {}
    await other.close()
    await store.close(settled=False)


async def test_a_group_that_met_its_own_first_try_is_written_once(postgres_url: str) -> None:
    """The connection broke while the statement waited: it goes on in the database, and the second try finds it done."""
    store = await PostgresClaims.open(postgres_url, Limits())
    await begin(store)
    group = changes(tally=tally((cell(), 1)))
    first = await asyncpg.connect(postgres_url)
    transaction = first.transaction()
    await transaction.start()
    await first.execute("UPDATE gateways SET applied = $2 WHERE owner = $1", store.owner, group.number)
    again = asyncio.create_task(store.apply(group))
    await until_waiting(first)
    await transaction.commit()
    await again
    assert await store.ledger(ALL) == {}
    await first.close()
    await store.close(settled=True)


async def test_a_group_that_is_written_again_counts_once(postgres_url: str) -> None:
    """A connection may break after the commit and before the answer: by its number the store knows a group again."""
    store = await PostgresClaims.open(postgres_url, Limits())
    await begin(store)
    group = changes(tally=tally((cell(), 1)))
    for _ in range(3):
        await store.apply(group)
    await store.apply(changes(tally=tally((cell(), 1))))
    assert (await store.ledger(ALL))[cell(minute=0)] == 2
    await store.close(settled=True)
