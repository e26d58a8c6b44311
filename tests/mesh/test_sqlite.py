"""mesh.sqlite.Database: durable grouped writes, direct reads, one owner."""

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import StorageUnavailable
from mesh.sqlite import Database


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A folder with one migration that makes a table of notes."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_notes.sql").write_text("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);")
    return folder


@pytest.fixture
async def database(tmp_path: Path, migrations: Path) -> AsyncIterator[Database]:
    """An open database with the table of notes."""
    opened = Database.open(tmp_path / "data" / "notes.db", migrations)
    yield opened
    await opened.close()


def note(text: str) -> Callable[[sqlite3.Connection], int | None]:
    """Build a write that adds one note and returns its row id."""
    return lambda connection: connection.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid


def texts(database: Database) -> list[str]:
    """All notes, oldest first."""
    return [row[0] for row in database.fetch_all("SELECT text FROM notes ORDER BY id")]


async def test_a_write_returns_its_result_and_is_read_back(database: Database) -> None:
    """What a write returns is handed to its caller, and the next read sees its rows."""
    assert await database.write(note("first")) == 1
    assert texts(database) == ["first"]


async def test_concurrent_writes_share_commits_and_keep_their_order(database: Database) -> None:
    """Writes that queue up behind one another are committed in fewer transactions, in the order of the calls."""
    commits = []
    gate = threading.Event()
    database._writer._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    held = database.submit(lambda _: gate.wait(5))
    writes = [database.submit(note(f"note {number}")) for number in range(100)]
    gate.set()
    await asyncio.gather(held, *writes)
    assert texts(database) == [f"note {number}" for number in range(100)]
    assert len(commits) <= 2


async def test_a_failed_write_is_undone_alone(database: Database) -> None:
    """One write of a group that breaks a constraint raises at its caller; its neighbours are committed."""

    def breaks(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (text) VALUES ('half')")
        connection.execute("INSERT INTO notes (text) VALUES ('half')")

    before, failed, after = (database.submit(run) for run in (note("before"), breaks, note("after")))
    outcomes = await asyncio.gather(before, failed, after, return_exceptions=True)
    assert isinstance(outcomes[1], sqlite3.IntegrityError)
    assert texts(database) == ["before", "after"]


async def test_an_error_of_the_caller_is_raised_as_it_is(database: Database) -> None:
    """A write that raises an error of its own gets that very error back, and nothing of it stays."""
    error = LookupError("not here")

    def refuses(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (text) VALUES ('gone')")
        raise error

    with pytest.raises(LookupError) as caught:
        await database.write(refuses)
    assert caught.value is error
    assert texts(database) == []


async def test_a_failure_of_the_file_is_storage_unavailable(database: Database) -> None:
    """SQLite's own failures reach callers as StorageUnavailable, with the cause kept."""
    with pytest.raises(StorageUnavailable) as caught:
        await database.write(lambda connection: connection.execute("INSERT INTO nowhere VALUES (1)"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    with pytest.raises(StorageUnavailable):
        database.fetch_all("SELECT * FROM nowhere")


async def test_a_full_disk_fails_the_whole_group(database: Database) -> None:
    """When SQLite itself rolls the transaction back, every write of the group is told so, and the next one works."""
    pages = database.fetch_all("PRAGMA page_count")[0][0]
    await database.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    writes = [database.submit(note("small")), database.submit(note("x" * 100_000))]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(outcomes[1], StorageUnavailable)
    assert texts(database) == ([] if isinstance(outcomes[0], StorageUnavailable) else ["small"])
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
    assert await database.write(note("fits again"))


@pytest.mark.parametrize("error", [MemoryError("out of memory"), SystemExit(1)])
async def test_no_error_ends_the_writer(database: Database, error: BaseException) -> None:
    """Whatever a group fails with, all of it is told and undone, and the next write is carried out."""

    def breaks(connection: sqlite3.Connection) -> int | None:
        # As SQLite does itself when it is out of memory.
        connection.execute("ROLLBACK")
        raise error

    writes = [database.submit(note("beside")), database.submit(breaks)]
    outcomes = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 10)
    assert isinstance(outcomes[1], StorageUnavailable)
    assert outcomes[1].__cause__ is error
    assert await asyncio.wait_for(database.write(note("next")), 10)
    assert "next" in texts(database)


async def test_a_rollback_that_fails_is_made_up_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk answers nothing at all, writes are refused; once it does again, they are carried out."""
    real = database._writer._connection

    class Broken:
        """A connection whose disk answers no commit and no rollback."""

        in_transaction = property(lambda _: real.in_transaction)

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            """Run a statement."""
            if sql in {"COMMIT", "ROLLBACK"}:
                raise sqlite3.OperationalError("disk I/O error")
            return real.execute(sql, *parameters)

    monkeypatch.setattr(database._writer, "_connection", Broken())
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await asyncio.wait_for(database.write(note("lost")), 10)
    monkeypatch.undo()
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(database.write(note("lost")), 10)
    assert await asyncio.wait_for(database.write(note("kept")), 10)
    assert texts(database) == ["kept"]


async def test_a_cancelled_caller_does_not_stop_its_write(database: Database) -> None:
    """A queued write is carried out although nobody waits for it any more."""
    gate = threading.Event()
    held = database.submit(lambda _: gate.wait(5))
    task = asyncio.create_task(database.write(note("kept")))
    await asyncio.sleep(0)
    task.cancel()
    gate.set()
    await held
    await database.write(note("next"))
    assert task.cancelled()
    assert texts(database) == ["kept", "next"]


async def test_close_commits_what_is_queued_and_refuses_the_rest(tmp_path: Path, migrations: Path) -> None:
    """Close drains: queued writes are on disk afterwards, later ones are refused; closing twice is harmless."""
    path = tmp_path / "drain.db"
    database = Database.open(path, migrations)
    writes = [database.submit(note(str(number))) for number in range(20)]
    await database.close()
    await database.close()
    await asyncio.gather(*writes)
    for use in (lambda: database.submit(note("late")), database.read):
        with pytest.raises(StorageUnavailable):
            use()
    reopened = Database.open(path, migrations)
    assert len(texts(reopened)) == 20
    await reopened.close()


async def test_reading_cannot_write(database: Database) -> None:
    """The read connection refuses to change anything."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.read().execute("DELETE FROM notes")


async def test_a_second_owner_is_refused_by_name(database: Database, migrations: Path) -> None:
    """While a process has the file open, another one fails at once and is told which process owns it."""
    program = "import sys, pathlib; from mesh.sqlite import Database; Database.open(*map(pathlib.Path, sys.argv[1:]))"
    command = [sys.executable, "-c", program, str(database.path), str(migrations)]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode != 0
    assert f"in use by process {os.getpid()}" in second.stderr


async def test_a_killed_process_leaves_its_commits_and_no_lock(tmp_path: Path, migrations: Path) -> None:
    """SIGKILL right after an acknowledged write loses nothing, and the next process may take the file."""
    path = tmp_path / "killed.db"
    program = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from mesh.sqlite import Database\n"
        "async def main():\n"
        "    database = Database.open(*map(pathlib.Path, sys.argv[1:]))\n"
        "    await database.write(lambda c: c.execute(\"INSERT INTO notes (text) VALUES ('acknowledged')\"))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(path), str(migrations)]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30, check=False)
    assert killed.returncode == -9
    database = Database.open(path, migrations)
    assert texts(database) == ["acknowledged"]
    await database.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, migrations: Path) -> None:
    """Opening something else than a SQLite file raises StorageUnavailable and releases the lock."""
    path = tmp_path / "garbage.db"
    path.write_bytes(b"no database at all" * 100)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="not a database"):
            Database.open(path, migrations)


async def test_a_lock_file_that_cannot_be_written_is_told(
    tmp_path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk keeps the owner's number from being noted, which only a message needs: the file is opened."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    database = Database.open(tmp_path / "notes.db", migrations)
    with pytest.raises(StorageUnavailable, match="in use by process unknown"):
        Database.open(tmp_path / "notes.db", migrations)
    await database.close()


async def test_a_temporary_database_leaves_nothing_behind(migrations: Path) -> None:
    """Without a path the file stands in a temporary folder that close removes."""
    database = Database.open(None, migrations)
    await database.write(note("passing"))
    folder = database.path.parent
    await database.close()
    assert not folder.exists()
