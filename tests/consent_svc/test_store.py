"""The contract of every adapter that keeps the ledger."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest

from consent_svc.ledger import Entry, Statement
from consent_svc.store import ConsentStore, SqliteConsentStore
from mesh.errors import StorageUnavailable
from mesh.sqlite import Database

NOW = 1_750_000_000 * 10**9


def statement(subject: str = "p", workspace: str = "w", origin: str = "test") -> Statement:
    """Make a statement."""
    return Statement(workspace, subject, 4, 8, origin, "2025-01", NOW - 5)


@pytest.fixture(params=[SqliteConsentStore])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ConsentStore]:
    """Each adapter in turn, empty."""
    opened: ConsentStore = request.param.open(tmp_path / "ledger.db")
    yield opened
    await opened.close()


async def test_an_entry_is_returned_and_read_back_as_it_was_made(store: ConsentStore) -> None:
    """Nothing of an entry is lost on the way, whichever way it is read."""
    entry = await store.append(statement(), NOW)
    assert (entry.epoch, entry.granted, entry.denied, entry.origin, entry.policy_version) == (
        1,
        4,
        8,
        "test",
        "2025-01",
    )
    assert (entry.decide_ns, entry.record_ns) == (NOW - 5, NOW)
    assert await store.entries_of("w", ["p", "nobody"]) == {"p": [entry]}
    assert await store.history("w", "p", None, 10) == [entry]


async def test_epochs_ascend_by_one_over_a_workspace(store: ConsentStore) -> None:
    """Concurrent appends get every number once, over all subjects, each workspace for itself."""
    await store.append(statement(workspace="other"), NOW)
    entries = await asyncio.gather(*(store.append(statement(f"p{n % 3}"), NOW) for n in range(50)))
    assert sorted(entry.epoch for entry in entries) == list(range(1, 51))
    assert await store.last_epochs() == {"other": 1, "w": 50}


async def test_an_empty_ledger_has_no_epochs(store: ConsentStore) -> None:
    """Where nothing was recorded there is nothing to report."""
    assert await store.last_epochs() == {}
    assert await store.entries_of("w", ["p"]) == {}
    assert await store.history("w", "p", None, 10) == []


async def test_history_comes_newest_first_in_pages(store: ConsentStore) -> None:
    """A bound leaves out the entries from it upwards, a limit cuts; other people's entries never appear."""
    for number in range(6):
        await store.append(statement("p" if number % 2 == 0 else "q"), NOW)
    assert [entry.epoch for entry in await store.history("w", "p", None, 2)] == [5, 3]
    assert [entry.epoch for entry in await store.history("w", "p", 3, 2)] == [1]
    assert await store.history("elsewhere", "p", None, 2) == []


async def test_record_time_follows_the_ledger_when_the_clock_is_set_back(store: ConsentStore) -> None:
    """An entry is dated after the one it follows, and that it was is read back with it."""
    first = await store.append(statement(), NOW)
    second = await store.append(statement(), NOW - 10**9)
    assert (second.record_ns, first.clock_behind, second.clock_behind) == (NOW + 1, False, True)
    assert await store.history("w", "p", None, 10) == [second, first]


async def test_many_subjects_are_read_at_once(store: ConsentStore) -> None:
    """Each of as many subjects as a batch may name gets its own entries, whatever stands around them."""
    names = [f"p{number}" for number in range(600)]
    await asyncio.gather(*(store.append(statement(name), NOW) for name in names for _ in range(2)))
    for count in (0, 1, 4, 5, 256, 257, 600):
        found = await store.entries_of("w", names[:count])
        assert {name: len(entries) for name, entries in found.items()} == dict.fromkeys(names[:count], 2)


async def test_names_may_hold_any_text(store: ConsentStore) -> None:
    """Quotes, brackets, other scripts and a NUL are plain text in a name."""
    for subject in ("'\"];--☃\u0001", "p\0q", "p\0r"):
        entry = await store.append(statement(subject), NOW)
        assert await store.entries_of("w", [subject, "p"]) == {subject: [entry]}


async def test_a_closed_store_is_unavailable(store: ConsentStore) -> None:
    """What cannot be written or read any more is refused with the reason that clients know."""
    await store.close()
    with pytest.raises(StorageUnavailable):
        await store.append(statement(), NOW)
    with pytest.raises(StorageUnavailable):
        await store.entries_of("w", ["p"])


async def test_sqlite_keeps_the_ledger_over_a_restart(tmp_path: Path) -> None:
    """What was appended is there when the file is opened again, and numbering goes on."""
    first = SqliteConsentStore.open(tmp_path / "ledger.db")
    entry = await first.append(statement(), NOW)
    await first.close()
    second = SqliteConsentStore.open(tmp_path / "ledger.db")
    assert await second.entries_of("w", ["p"]) == {"p": [entry]}
    assert (await second.append(statement(), NOW)).epoch == 2
    await second.close()


async def test_sqlite_reads_no_more_than_it_is_asked_for(tmp_path: Path) -> None:
    """Every read goes by an index, so that it takes no longer in a large workspace, and nobody waits for it."""
    store = SqliteConsentStore.open(tmp_path / "ledger.db")
    asked: list[str] = []
    store._database.read().set_trace_callback(asked.append)
    await store.entries_of("w", ["p"])
    await store.entries_of("w", [f"p{number}" for number in range(300)])
    await store.history("w", "p", None, 10)
    await store.last_epochs()
    store._database.read().set_trace_callback(None)
    plans = [store._database.fetch_all(f"EXPLAIN QUERY PLAN {sql}") for sql in asked]
    assert len(plans) == 5
    for plan in plans[:4]:
        assert "consent_entries_by_subject (workspace=? AND subject=?" in plan[0][3]
    assert not any("SCAN consent_entries" in step[3] for step in plans[4])
    await store.close()


async def test_a_sqlite_ledger_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    """What an older program recorded counts as it did."""
    (tmp_path / "old").mkdir()
    first = files("consent_svc.store.migrations").joinpath("0001_ledger.sql")
    (tmp_path / "old" / first.name).write_text(first.read_text())
    old = Database.open(tmp_path / "ledger.db", tmp_path / "old")
    row = ("w", 1, "p", 4, 8, "test", "2025-01", NOW - 5, NOW)
    await old.write(
        lambda connection: connection.execute("INSERT INTO consent_entries VALUES (?,?,?,?,?,?,?,?,?)", row).rowcount
    )
    await old.close()
    store = SqliteConsentStore.open(tmp_path / "ledger.db")
    assert await store.entries_of("w", ["p"]) == {"p": [Entry(*row[1:], clock_behind=False)]}
    assert (await store.append(statement(), NOW)).epoch == 2
    await store.close()


async def test_a_sqlite_ledger_has_one_owner(tmp_path: Path) -> None:
    """A second process would not see the first one's withdrawals in time: it may not open the file."""
    owner = SqliteConsentStore.open(tmp_path / "ledger.db")
    with pytest.raises(StorageUnavailable, match="is in use by process"):
        SqliteConsentStore.open(tmp_path / "ledger.db")
    await owner.close()


@pytest.mark.parametrize("sql", ["UPDATE consent_entries SET granted = 62, denied = 0", "DELETE FROM consent_entries"])
async def test_a_sqlite_ledger_refuses_to_be_rewritten(tmp_path: Path, sql: str) -> None:
    """Even by hand an entry can only be followed by another."""
    store = SqliteConsentStore.open(tmp_path / "ledger.db")
    await store.append(statement(), NOW)
    await store.close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(sql)
    connection.close()
