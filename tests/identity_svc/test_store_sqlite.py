"""SqliteIdentityStore: the store contract, and what only this adapter promises."""

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from identity_svc.store import IdentityStore, SqliteIdentityStore, rows
from mesh.clock import FixedClock
from mesh.errors import StorageUnavailable
from tests.contract.identity_machine import IdentityMachine
from tests.contract.identity_store import WORKSPACE, IdentityStoreContract, Item, OpenStore, resolve, resolve_one


class TestSqlite(IdentityStoreContract):
    """The contract, on a file."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        """Opens the same file each time."""

        async def opener() -> IdentityStore:
            return SqliteIdentityStore.open(tmp_path / "identity.db")

        return opener


class SqliteMachine(IdentityMachine):
    """The random walk, on a file, with so small a cache that most look-ups read it."""

    async def open_store(self) -> IdentityStore:
        """Open the walk's own file."""
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
        return SqliteIdentityStore.open(Path(self.folder.name) / "identity.db", cache_size=4)

    def teardown(self) -> None:
        """Close the store and remove its file."""
        super().teardown()
        self.folder.cleanup()


SqliteMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRandomWalk = SqliteMachine.TestCase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is."""
    return tmp_path / "identity.db"


async def test_what_is_known_needs_no_write_and_no_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose identifiers are all cached touches neither the writer nor the file, and never suspends."""
    store = SqliteIdentityStore.open(path)
    items = [Item("a1", "u1"), Item("a2"), Item("a1", "u2")]
    await resolve(store, *items)
    settled = await resolve(store, *items)
    monkeypatch.setattr(store._database, "submit", None)
    monkeypatch.setattr(store._database, "fetch_all", None)
    work = store.resolve(WORKSPACE, items)
    with pytest.raises(StopIteration) as finished:
        work.send(None)
    assert finished.value.value == settled
    monkeypatch.undo()
    await store.close()


async def test_results_that_rest_on_a_pending_write_wait_for_it(path: Path) -> None:
    """A batch that creates nothing itself still waits until what it was told is durable; a known one does not."""
    store = SqliteIdentityStore.open(path)
    await resolve_one(store, Item("known"))
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    held = store._database.submit(lambda _: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10))
    first = asyncio.create_task(resolve_one(store, Item("a1")))
    second = asyncio.create_task(resolve_one(store, Item("a1")))
    await asyncio.wait_for(resolve_one(store, Item("known")), 1)
    assert not first.done()
    assert not second.done()
    gate.set()
    assert await first == await second
    await held
    await store.close()


async def test_a_failed_write_takes_along_all_that_was_built_on_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a write fails, every batch decided since fails; afterwards the store goes on from what is on disk."""
    store = SqliteIdentityStore.open(path)
    known = await resolve_one(store, Item("a1"))
    append = rows.append_facts

    def fails_once(connection: sqlite3.Connection, facts: object) -> None:
        monkeypatch.setattr(rows, "append_facts", append)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(rows, "append_facts", fails_once)
    login = asyncio.create_task(resolve_one(store, Item("a1", "u1")))
    await asyncio.sleep(0)
    # Decided while that write is in flight: one rests on its facts only, the other would add facts to them.
    readers = [asyncio.create_task(resolve_one(store, item)) for item in (Item("a1"), Item("a2", "u1"))]
    outcomes = await asyncio.gather(login, *readers, return_exceptions=True)
    assert all(isinstance(outcome, StorageUnavailable) for outcome in outcomes), outcomes
    assert await resolve_one(store, Item("a1")) == known
    assert (await resolve_one(store, Item(user_id="u1"))).profile_id != known.profile_id
    assert await store.rebuild() == 0
    await store.close()


async def test_a_cancelled_batch_leaves_the_others_alone(path: Path) -> None:
    """A caller that goes away while its write is pending neither stops it nor disturbs those who wait with it."""
    store = SqliteIdentityStore.open(path)
    gone = asyncio.create_task(resolve_one(store, Item("a1")))
    stays = asyncio.create_task(resolve_one(store, Item("a1")))
    await asyncio.sleep(0)
    gone.cancel()
    kept = await stays
    assert gone.cancelled()
    assert await resolve_one(store, Item("a1")) == kept
    await store.close()


async def test_close_waits_for_pending_writes(path: Path) -> None:
    """What was decided before the close is on disk after it."""
    store = SqliteIdentityStore.open(path)
    pending = [asyncio.create_task(resolve_one(store, Item(f"a{number}"))) for number in range(10)]
    await asyncio.sleep(0)
    await store.close()
    answered = await asyncio.gather(*pending)
    with pytest.raises(StorageUnavailable):
        await resolve_one(store, Item("late"))
    store = SqliteIdentityStore.open(path)
    assert await resolve(store, *[Item(f"a{number}") for number in range(10)]) == answered
    await store.close()


async def test_the_clock_dates_the_facts(path: Path) -> None:
    """Created when the first identifier came, updated when the last one did."""
    clock = FixedClock(1_000)
    store = SqliteIdentityStore.open(path, clock=clock)
    await resolve_one(store, Item("a1"))
    clock.advance(5)
    login = await resolve_one(store, Item("a1", "u1"))
    clock.advance(5)
    await resolve_one(store, Item("a1", "u1"))
    profile = await store.find_profile(WORKSPACE, login.profile_id)
    assert profile is not None
    assert (profile.create_ns, profile.update_ns) == (1_000, 5_000_001_000)
    await store.close()


async def test_rebuild_repairs_a_damaged_state(path: Path) -> None:
    """Rows that were changed behind the store's back are found, counted and set right from the history."""
    store = SqliteIdentityStore.open(path, make_id=(f"p{n}" for n in itertools.count()).__next__)
    items = [Item("a1"), Item("a2", "u1"), Item("a1", "u1")]
    await resolve(store, *items)
    settled = await resolve(store, *items)
    await store._database.write(lambda connection: connection.execute("UPDATE profiles SET merged_into = NULL"))
    await store._database.write(lambda connection: connection.execute("DELETE FROM identifiers WHERE value = 'a2'"))
    assert await store.rebuild() > 0
    assert await store.rebuild() == 0
    assert await resolve(store, *items) == settled
    await store.close()


@pytest.mark.parametrize("statement", ["UPDATE assertions SET assurance = 3", "DELETE FROM assertions"])
async def test_history_cannot_be_changed(path: Path, statement: str) -> None:
    """The file itself refuses to change or drop a fact."""
    store = SqliteIdentityStore.open(path)
    await resolve_one(store, Item("a1"))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        await store._database.write(lambda connection: connection.execute(statement))
    await store.close()


async def test_a_second_process_is_refused(path: Path) -> None:
    """The file has one owner: what another process wrote would contradict what this one keeps in memory."""
    store = SqliteIdentityStore.open(path)
    program = (
        "import pathlib, sys; from identity_svc.store import *; SqliteIdentityStore.open(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(path)]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30, check=False)
    assert "in use by process" in second.stderr
    await store.close()
