"""The directory: what is changed holds at once, here, and soon at every gateway that shares the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from gateway.admin import directory as module
from gateway.admin import rules
from gateway.admin.directory import Directory
from gateway.admin.records import Limits, SourceRecord, SourceValues
from gateway.admin.store import SourceStore, SqliteSourceStore
from gateway.admin.store.postgres import PostgresSourceStore
from gateway.errors import SourceExists, SourceNotFound, SourceReadOnly
from gateway.sources import Source, SourceLimits, Sources, hash_key
from mesh.clock import Clock, FixedClock, SystemClock
from mesh.errors import StorageUnavailable
from tests.gateway.admin.stores import KINDS, NOW, VALUES, open_kind
from tests.mesh.rpc import eventually
from tests.support.postgres import Postgres

PLACE = ("w", "web")
FILE = {hash_key("filed"): Source("w", "filed", frozenset({1}))}


class Gate:
    """A directory and the table that its gateway looks into."""

    def __init__(self, store: SourceStore, clock: Clock, file: dict[str, Source]) -> None:
        self.sources = Sources(file, clock)
        self.directory = Directory(self.sources, store, clock)

    async def create(self, values: SourceValues = VALUES) -> None:
        """Make the source of these tests."""
        await self.directory.create(PLACE, "admin", rules.create(values))

    async def add_key(self, key: str, lifetime_ns: int | None = None) -> None:
        """Give it a key; its id is the key."""
        rule = rules.create_key(key, hash_key(key), "wk_", lifetime_ns)
        await self.directory.change(PLACE, "admin", rule)

    async def run(self, rule: rules.Rule) -> SourceRecord | None:
        """Change it."""
        return await self.directory.change(PLACE, "admin", rule)

    def holds(self, key: str) -> bool:
        """Whether a request with the key is let in."""
        return self.sources.find(key) is not None


@asynccontextmanager
async def started(
    store: SourceStore, clock: Clock | None = None, file: dict[str, Source] | None = None
) -> AsyncIterator[Gate]:
    """A gateway's directory."""
    gate = Gate(store, clock or SystemClock(), FILE if file is None else file)
    await gate.directory.start()
    yield gate
    await gate.directory.close()


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SourceStore]:
    """Each kind of store in turn, empty."""
    async with open_kind(request.param, request, tmp_path) as opened:
        yield opened


@pytest.fixture
async def gate(store: SourceStore) -> AsyncIterator[Gate]:
    """A started directory over each kind of store."""
    async with started(store) as gate:
        yield gate


@pytest.fixture
async def gates(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Gate, Gate]]:
    """Two gateways on one PostgreSQL, which learn of changes by being told alone."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 3_600.0)
    async with AsyncExitStack() as stack:
        pair = [await stack.enter_async_context(started(await PostgresSourceStore.open(postgres_url))) for _ in "ab"]
        yield pair[0], pair[1]


# at the gateway that was asked


async def test_a_key_holds_from_when_it_was_made_until_it_is_revoked(gate: Gate) -> None:
    """Both when the call returns: a key that was looked up, and remembered, is refused as well."""
    await gate.create()
    assert not gate.holds("k1")
    await gate.add_key("k1")
    assert gate.holds("k1")
    assert gate.holds("k1")
    await gate.run(rules.revoke_key("k1"))
    assert not gate.holds("k1")


async def test_a_source_is_found_with_its_settings(gate: Gate) -> None:
    """Limits and origins as they are now; those that are absent are the defaults."""
    await gate.create()
    await gate.add_key("k1")
    assert gate.sources.find("k1") == Source(
        "w", "web", frozenset({1, 2}), SourceLimits(5.5, 10), ("https://shop.example",)
    )
    await gate.run(rules.update(lambda _: SourceValues((3,))))
    assert gate.sources.find("k1") == Source("w", "web", frozenset({3}))


async def test_a_disabled_source_has_no_key_until_it_is_enabled(gate: Gate) -> None:
    """At once, both ways."""
    await gate.create()
    await gate.add_key("k1")
    await gate.run(rules.update(lambda values: SourceValues(values.purposes, disabled=True)))
    assert not gate.holds("k1")
    await gate.run(rules.update(lambda values: SourceValues(values.purposes)))
    assert gate.holds("k1")


async def test_a_deleted_source_has_no_key(gate: Gate) -> None:
    """And is found no more."""
    await gate.create()
    await gate.add_key("k1")
    assert await gate.run(rules.delete) is None
    assert not gate.holds("k1")
    with pytest.raises(SourceNotFound):
        gate.directory.find(PLACE)


async def test_a_rotated_key_holds_beside_the_new_one_for_the_overlap(store: SourceStore) -> None:
    """Then it ends by itself, also for those who use it all the time; the new one goes on."""
    clock = FixedClock(NOW)
    async with started(store, clock) as gate:
        await gate.create()
        await gate.add_key("old")
        await gate.run(rules.rotate_key("old", 50_000_000, "new", hash_key("new"), "wk_"))
        assert gate.holds("old")
        assert gate.holds("new")
        clock.advance(0.05)
        await eventually(lambda: not gate.holds("old"))
        assert gate.holds("new")


async def test_without_an_overlap_the_old_key_ends_at_once(gate: Gate) -> None:
    """When the call returns."""
    await gate.create()
    await gate.add_key("old")
    await gate.run(rules.rotate_key("old", 0, "new", hash_key("new"), "wk_"))
    assert not gate.holds("old")
    assert gate.holds("new")


async def test_a_revoked_key_holds_at_no_gateway_whose_clock_is_behind(postgres_url: str) -> None:
    """A revocation is no time to wait for."""
    async with (
        started(await PostgresSourceStore.open(postgres_url), FixedClock(NOW + 10**12)) as ahead,
        started(await PostgresSourceStore.open(postgres_url), FixedClock(NOW)) as behind,
    ):
        await ahead.create()
        await ahead.add_key("k1")
        await ahead.run(rules.revoke_key("k1"))
        await behind.directory.refresh()
        assert behind.directory.find(PLACE).record.keys[0].revoke_ns == NOW + 10**12
        assert not behind.holds("k1")


async def test_a_change_holds_although_its_caller_went_away(gate: Gate) -> None:
    """What the store took is in force, whoever still waits for the answer."""
    await gate.create()
    await gate.add_key("k1")
    call = asyncio.create_task(gate.run(rules.revoke_key("k1")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: not gate.holds("k1"))


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Sources, keys and revocations."""
    async with started(SqliteSourceStore.open(tmp_path / "s.db")) as gate:
        await gate.create()
        await gate.add_key("k1")
        await gate.add_key("k2")
        await gate.run(rules.revoke_key("k2"))
    async with started(SqliteSourceStore.open(tmp_path / "s.db")) as gate:
        assert (gate.holds("k1"), gate.holds("k2"), gate.holds("filed")) == (True, False, True)


async def test_the_least_rate_that_is_taken_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    """What the contract lets pass can be put in force, here and wherever it is read again."""
    values = SourceValues((1,), Limits(5e-324, 1_000_000))
    async with started(SqliteSourceStore.open(tmp_path / "s.db")) as gate:
        await gate.create(values)
        await gate.add_key("k")
    async with started(SqliteSourceStore.open(tmp_path / "s.db")) as gate:
        assert gate.holds("k")


# beside the sources file


async def test_a_source_of_the_file_is_shown_and_not_changed(gate: Gate) -> None:
    """It stands in the list like the others; a change is refused, and the name is taken."""
    await gate.create()
    assert [(one.record.name, one.from_file) for one in gate.directory.listed()] == [("filed", True), ("web", False)]
    place = ("w", "filed")
    with pytest.raises(SourceReadOnly):
        await gate.directory.change(place, "admin", rules.delete)
    with pytest.raises(SourceExists):
        await gate.directory.create(place, "admin", rules.create(VALUES))
    (key,) = gate.directory.find(place).record.keys
    assert key.sha256 == hash_key("filed")
    assert key.id == f"file-{key.sha256[:12]}"
    assert gate.holds("filed")


async def test_the_file_overrides_the_store(tmp_path: Path) -> None:
    """A stored source that the file defines too has the file's settings, for the keys of both."""
    async with started(SqliteSourceStore.open(tmp_path / "s.db"), file={}) as gate:
        await gate.create()
        await gate.add_key("stored")
    defined = Source("w", "web", frozenset({5}))
    async with started(SqliteSourceStore.open(tmp_path / "s.db"), file={hash_key("filed"): defined}) as gate:
        assert gate.sources.find("stored") == gate.sources.find("filed") == defined
        (listed,) = gate.directory.listed()
        assert listed.from_file
        assert [key.id.partition("-")[0] for key in listed.record.keys] == ["file", "stored"]


# the use of keys


async def test_the_use_of_a_key_is_known_at_once_and_noted_later(store: SourceStore) -> None:
    """No request waits for it; each key is noted once, however often it was used, of the file's too."""
    clock = FixedClock(NOW)
    async with started(store, clock) as gate:
        await gate.create()
        await gate.add_key("k1")
        for key in ("k1", "k1", "filed", "unknown"):
            gate.holds(key)
        assert await gate.directory.last_uses() == {hash_key("k1"): NOW, hash_key("filed"): NOW}
        assert await store.last_uses() == {}
        await gate.directory.note_uses()
        clock.advance(60)
        gate.holds("k1")
        assert await store.last_uses() == {hash_key("k1"): NOW, hash_key("filed"): NOW}
        assert (await gate.directory.last_uses())[hash_key("k1")] == clock.now_ns()
        await gate.directory.note_uses()
        assert await store.last_uses() == {hash_key("k1"): clock.now_ns(), hash_key("filed"): NOW}


async def test_uses_are_noted_before_the_gateway_stops(tmp_path: Path) -> None:
    """Those since the last time as well."""
    async with started(SqliteSourceStore.open(tmp_path / "s.db"), FixedClock(NOW)) as gate:
        gate.holds("filed")
    store = SqliteSourceStore.open(tmp_path / "s.db")
    assert await store.last_uses() == {hash_key("filed"): NOW}
    await store.close()


# other gateways


async def test_a_change_is_soon_in_force_at_the_other_gateway(gates: tuple[Gate, Gate]) -> None:
    """It is told by the database, and does not wait for its next look at the revision."""
    here, there = gates
    await here.create()
    await here.add_key("k1")
    await eventually(lambda: there.holds("k1"))
    await there.run(rules.revoke_key("k1"))
    await eventually(lambda: not here.holds("k1"))


async def test_changes_at_both_gateways_meet(gates: tuple[Gate, Gate]) -> None:
    """Neither loses what the other did while it was busy itself."""
    here, there = gates
    await here.create()
    await there.directory.refresh()
    made = [(gate, f"{name}{n}") for n in range(8) for name, gate in zip("ab", gates, strict=True)]
    await asyncio.gather(*(gate.add_key(key) for gate, key in made))
    await eventually(lambda: all(gate.holds(key) for gate in gates for _, key in made))


async def test_a_lost_notification_is_made_up_for(gates: tuple[Gate, Gate], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told nothing finds the change by the store's revision."""
    here, _ = gates
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    deaf_store = await PostgresSourceStore.open(here.directory._store._url)  # type: ignore[attr-defined]

    async def never(_changed: Callable[[], None]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(deaf_store, "watch", never)
    async with started(cast("SourceStore", deaf_store)) as deaf:
        await here.create()
        await here.add_key("k1")
        await eventually(lambda: deaf.holds("k1"))


async def test_while_the_database_is_away_events_go_on_and_nothing_can_be_changed(
    gates: tuple[Gate, Gate], postgres: Postgres
) -> None:
    """And when it is back, both the changes and the news of them are, too."""
    here, there = gates
    await here.create()
    await here.add_key("k1")
    await eventually(lambda: there.holds("k1"))
    await asyncio.to_thread(postgres.kill)
    try:
        with pytest.raises(StorageUnavailable):
            await here.run(rules.revoke_key("k1"))
        assert here.holds("k1")
        assert there.holds("k1")
    finally:
        await asyncio.to_thread(postgres.start)
    await here.run(rules.revoke_key("k1"))
    assert not here.holds("k1")
    await eventually(lambda: not there.holds("k1"), 15)


async def test_what_an_older_gateway_cannot_read_does_not_end_its_keeping_up(gates: tuple[Gate, Gate]) -> None:
    """It goes on with what it knew, says so, and follows again once it can."""
    here, there = gates
    await here.create()
    await here.add_key("k1")
    await eventually(lambda: there.holds("k1"))
    database: Any = here.directory._store._database  # type: ignore[attr-defined]
    with structlog.testing.capture_logs() as logs:
        await database.fetch("UPDATE sources SET record = '{}' || record")
        there.directory._revision = 0
        there.directory._stale.set()
        await eventually(lambda: [entry["event"] for entry in logs] == ["sources may be out of date"])
    assert there.holds("k1")
    await database.fetch("UPDATE sources SET record = substr(record, 3)")
    await here.run(rules.revoke_key("k1"))
    await eventually(lambda: not there.holds("k1"))
