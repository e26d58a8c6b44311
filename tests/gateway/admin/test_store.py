"""The contract of every adapter that keeps sources."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast, get_args

import asyncpg
import pytest

from gateway.admin import rules
from gateway.admin.records import Change, SourceRecord, SourceValues, fold
from gateway.admin.rules import Rule
from gateway.admin.store import SourceStore, SqliteSourceStore
from gateway.admin.store.postgres import PostgresSourceStore
from gateway.errors import SourceExists, TooManyWriteKeys
from mesh.errors import ClewError, StorageUnavailable
from tests.gateway.admin.stores import KINDS, NOW, VALUES, ask, open_kind, with_key


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SourceStore]:
    """Each adapter in turn, empty."""
    async with open_kind(request.param, request, tmp_path) as opened:
        yield opened


async def test_a_source_is_read_back_as_it_was_made(store: SourceStore) -> None:
    """Nothing is lost on the way, whichever way it is read."""
    written = await with_key(store)
    record = written.record
    assert record is not None
    assert (record.values, record.create_ns, record.update_ns, record.revision) == (VALUES, NOW, NOW, 2)
    assert [(key.id, key.sha256, key.create_ns) for key in record.keys] == [("k1", "hash-k1", NOW)]
    snapshot = await store.load()
    assert (snapshot.records, snapshot.revision, await store.revision()) == ([record], 2, 2)


async def test_an_empty_store_is_at_revision_zero(store: SourceStore) -> None:
    """Where nothing was changed there is nothing to report."""
    snapshot = await store.load()
    assert (snapshot.records, snapshot.revision, await store.revision()) == ([], 0, 0)
    assert await store.history("w", "web", None, 10) == []
    assert await store.last_uses() == {}


async def test_what_a_rule_refuses_leaves_no_trace(store: SourceStore) -> None:
    """Its error is the caller's, and neither state nor history have changed."""
    await with_key(store)
    with pytest.raises(SourceExists):
        await ask(store, rules.create(VALUES))
    with pytest.raises(ZeroDivisionError):
        await ask(store, lambda _record, _now: [1 // 0])  # type: ignore[list-item]
    assert await store.revision() == 2
    assert len(await store.history("w", "web", None, 10)) == 2


async def test_a_rule_that_changes_nothing_is_no_change(store: SourceStore) -> None:
    """The same values again, or a key that was revoked before: the source is returned as it is."""
    await with_key(store)
    await ask(store, rules.revoke_key("k1"))
    again = await ask(store, rules.revoke_key("k1"))
    assert again.revision == 3
    assert again.record is not None
    assert again.record.revision == 3
    assert (await ask(store, rules.update(lambda values: values))).revision == 3


async def test_a_deleted_source_is_gone_and_its_history_stays(store: SourceStore) -> None:
    """It may be made anew, and begins without keys."""
    await with_key(store)
    assert (await ask(store, rules.delete)).record is None
    assert (await store.load()).records == []
    anew = (await ask(store, rules.create(VALUES))).record
    assert anew is not None
    assert anew.keys == ()
    kinds = [type(entry.change).__name__ for entry in await store.history("w", "web", None, 10)]
    assert kinds == ["SourceCreated", "SourceDeleted", "KeyCreated", "SourceCreated"]


async def test_history_comes_newest_first_in_pages_and_says_who_and_when(store: SourceStore) -> None:
    """A page continues below the last number of the one before; other sources' changes are not in it."""
    await with_key(store)
    await with_key(store, name="other")
    await ask(store, rules.revoke_key("k1"), at_ns=NOW + 7)
    first = await store.history("w", "web", None, 2)
    assert [(entry.revision, entry.at_ns, entry.actor) for entry in first] == [(5, NOW + 7, "admin"), (2, NOW, "admin")]
    assert [entry.revision for entry in await store.history("w", "web", 2, 2)] == [1]
    assert await store.history("w", "web", 1, 2) == []


async def test_changes_take_turns(store: SourceStore) -> None:
    """Concurrent ones all stand, each numbered once, and no limit is passed in a race."""
    await ask(store, rules.create(VALUES))
    made = await asyncio.gather(
        *(ask(store, rules.create_key(f"k{n}", f"h{n}", "p", None)) for n in range(rules.MAX_ACTIVE_KEYS + 5)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, TooManyWriteKeys) for one in made) == 5
    (record,) = (await store.load()).records
    assert len(record.keys) == rules.MAX_ACTIVE_KEYS
    revisions = [entry.revision for entry in await store.history("w", "web", None, 100)]
    assert revisions == list(range(rules.MAX_ACTIVE_KEYS + 1, 0, -1))


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_stored_is_the_fold_of_the_history(store: SourceStore, seed: int) -> None:
    """After any changes, those that were refused among them, state and history tell the same."""
    chance = random.Random(seed)
    names = ("a", "b", "c")
    for step in range(200):
        rule = _any_rule(chance, step)
        try:
            await ask(store, rule, name=chance.choice(names), at_ns=NOW + step)
        except ClewError:
            continue
    histories = [await store.history("w", name, None, 1_000) for name in names]
    entries = sorted((entry for history in histories for entry in history), key=lambda entry: entry.revision)
    assert [entry.revision for entry in entries] == list(range(1, await store.revision() + 1))
    assert {type(entry.change) for entry in entries} == set(get_args(Change))
    stored = {(record.workspace, record.name): record for record in (await store.load()).records}
    assert stored == fold(entries)


def _any_rule(chance: random.Random, step: int) -> Rule:
    """A change of some kind, of a key that may be there or not."""
    known = f"k{max(0, step - chance.randrange(1, 15))}"
    new = (f"k{step}", f"h{step}", "wk_0123456")
    values = SourceValues((chance.randrange(1, 6),), disabled=chance.random() < 0.5)
    return chance.choice(
        [
            rules.create(values),
            rules.update(lambda _: values),
            rules.delete if chance.random() < 0.1 else rules.create(values),
            rules.create_key(*new, chance.choice([None, 5, 10**9])),
            rules.create_key(*new, None),
            rules.rotate_key(known, chance.choice([0, 5, 10**9]), *new),
            rules.revoke_key(known),
        ]
    )


async def test_of_two_uses_the_later_counts(store: SourceStore) -> None:
    """In whatever order they are noted, as by two gateways."""
    await store.record_uses({"h1": 10, "h2": 20})
    await store.record_uses({"h1": 5, "h2": 30, "h3": 1})
    assert await store.last_uses() == {"h1": 10, "h2": 30, "h3": 1}
    await store.record_uses({})


async def test_names_may_hold_any_text(store: SourceStore) -> None:
    """Quotes, brackets and other scripts are plain text in a name."""
    name = "'\"];--☃%s$1"
    written = await ask(store, rules.create(VALUES), name=name)
    assert (await store.load()).records == [written.record]


async def test_only_what_was_changed_is_read_again(store: SourceStore) -> None:
    """From a revision on: what was made or changed since, and the names of what has gone."""
    await with_key(store, name="kept")
    await with_key(store, name="gone")
    await with_key(store, name="changed")
    known = await store.revision()
    assert (await store.load(known)).records == []
    changed = (await ask(store, rules.revoke_key("k1"), name="changed")).record
    await ask(store, rules.delete, name="gone")
    made = (await ask(store, rules.create(VALUES), name="made")).record
    await ask(store, rules.create(VALUES), name="brief")
    await ask(store, rules.delete, name="brief")
    since = await store.load(known)
    assert sorted(since.records, key=lambda record: record.name) == [changed, made]
    assert sorted(since.gone) == [("w", "brief"), ("w", "gone")]
    assert since.revision == await store.revision()


async def test_a_closed_store_is_unavailable(store: SourceStore) -> None:
    """What cannot be written or read any more is refused with the reason that clients know."""
    await store.close()
    with pytest.raises(StorageUnavailable):
        await ask(store, rules.create(VALUES))
    with pytest.raises(StorageUnavailable):
        await store.load()


async def test_sqlite_keeps_sources_over_a_restart_and_has_one_owner(tmp_path: Path) -> None:
    """What was changed is there when the file is opened again; meanwhile nobody else may open it."""
    first = SqliteSourceStore.open(tmp_path / "sources.db")
    written = await with_key(cast("SourceStore", first))
    with pytest.raises(StorageUnavailable, match="is in use by process"):
        SqliteSourceStore.open(tmp_path / "sources.db")
    await first.close()
    second = SqliteSourceStore.open(tmp_path / "sources.db")
    assert (await second.load()).records == [written.record]
    await second.close()


@pytest.mark.parametrize("sql", ["UPDATE source_changes SET actor = 'nobody'", "DELETE FROM source_changes"])
async def test_a_sqlite_history_refuses_to_be_rewritten(tmp_path: Path, sql: str) -> None:
    """Even by hand a change can only be followed by another."""
    store = SqliteSourceStore.open(tmp_path / "sources.db")
    await with_key(store)
    await store.close()
    connection = sqlite3.connect(tmp_path / "sources.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    "sql", ["UPDATE source_changes SET actor = 'nobody'", "DELETE FROM source_changes", "TRUNCATE source_changes"]
)
async def test_a_postgres_history_refuses_to_be_rewritten(postgres_url: str, sql: str) -> None:
    """Even by hand a change can only be followed by another."""
    store = await PostgresSourceStore.open(postgres_url)
    await with_key(store)
    await store.close()
    connection = await asyncpg.connect(postgres_url)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await connection.execute(sql)
    await connection.close()


async def test_gateways_on_one_postgres_take_turns(postgres_url: str) -> None:
    """Two processes that make the same source at once: one of them is refused, and no number is given twice."""
    one, two = [await PostgresSourceStore.open(postgres_url) for _ in range(2)]
    made = await asyncio.gather(
        *(ask(store, rules.create(VALUES), name=f"s{n}") for n in range(20) for store in (one, two)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, SourceExists) for outcome in made) == 20
    assert await one.revision() == 20
    records: list[SourceRecord] = (await two.load()).records
    assert sorted(record.revision for record in records) == list(range(1, 21))
    await one.close()
    await two.close()
