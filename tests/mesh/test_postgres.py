"""mesh.postgres: migrations once each, transactions whole, and failures of the server told from faults of ours."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from mesh.errors import StorageUnavailable
from mesh.migrations import MigrationError
from mesh.postgres import Database
from mesh.postgres import database as module
from tests.support.postgres import Postgres


def write(folder: Path, **files: str) -> Path:
    """Write migration files, `m0001_name="SQL"` each, into a folder."""
    folder.mkdir(exist_ok=True)
    for name, sql in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(sql)
    return folder


async def open_close(url: str, folder: Path, component: str = "test") -> None:
    """Migrate, and nothing else."""
    await (await Database.open(url, component, folder)).close()


async def tables(url: str) -> set[str]:
    """Names of the tables that migrations made."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows} - {"schema_migrations"}


@pytest.fixture
async def database(postgres_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database with one table."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a integer PRIMARY KEY);")
    opened = await Database.open(postgres_url, "test", folder)
    yield opened
    await opened.close()


async def test_migrations_run_in_order_and_once(postgres_url: str, tmp_path: Path) -> None:
    """Each migration is applied exactly once; a later start applies only what is new."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a int);", m0002_two="ALTER TABLE one RENAME TO two;")
    await open_close(postgres_url, folder)
    await open_close(postgres_url, folder)
    write(folder, m0003_three="CREATE TABLE three (a int); CREATE TABLE four (a int);")
    await open_close(postgres_url, folder)
    assert await tables(postgres_url) == {"two", "three", "four"}


async def test_processes_that_start_together_migrate_once(postgres_url: str, tmp_path: Path) -> None:
    """Several at a time, on an empty database: none fails, none applies what another did."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a int); SELECT pg_sleep(0.05); INSERT INTO one VALUES (1);")
    await asyncio.gather(*(open_close(postgres_url, folder) for _ in range(4)))
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM one") == 1
    await connection.close()


async def test_components_number_their_own_migrations(postgres_url: str, tmp_path: Path) -> None:
    """Two components in one database do not take each other's migrations for their own."""
    await open_close(postgres_url, write(tmp_path / "a", m0001_a="CREATE TABLE a (a int);"), "first")
    await open_close(postgres_url, write(tmp_path / "b", m0001_b="CREATE TABLE b (b int);"), "second")
    assert await tables(postgres_url) == {"a", "b"}


async def test_a_failing_migration_is_undone_whole(postgres_url: str, tmp_path: Path) -> None:
    """When a statement fails, nothing of its migration stays, and the error names it."""
    folder = write(tmp_path, m0001_bad="CREATE TABLE half (a int); CREATE NONSENSE;")
    with pytest.raises(MigrationError, match="test: migration 0001_bad failed"):
        await open_close(postgres_url, folder)
    assert await tables(postgres_url) == set()


async def test_an_edited_migration_and_a_newer_database_are_refused(postgres_url: str, tmp_path: Path) -> None:
    """A program does not touch tables that were made by other migrations than its own."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a int);", m0002_two="CREATE TABLE two (a int);")
    await open_close(postgres_url, folder)
    write(folder, m0002_two="CREATE TABLE two (a int, b int);")
    with pytest.raises(MigrationError, match="0002_two was edited"):
        await open_close(postgres_url, folder)
    (folder / "0002_two.sql").unlink()
    with pytest.raises(MigrationError, match="use a newer program"):
        await open_close(postgres_url, folder)


async def test_a_transaction_stands_whole_or_not_at_all(database: Database) -> None:
    """What raised is undone, what ended well is there for others."""

    async def put(value: int, divisor: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO one VALUES ($1)", value)
            assert 1 / divisor

    await put(1, 1)
    with pytest.raises(ZeroDivisionError):
        await put(2, 0)
    assert [row["a"] for row in await database.fetch("SELECT a FROM one WHERE a < $1", 9)] == [1]


async def test_a_fault_of_the_caller_is_no_outage(database: Database) -> None:
    """A broken constraint and a wrong statement stay what they are: sending again would not help."""
    await database.fetch("INSERT INTO one VALUES (1)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await database.fetch("INSERT INTO one VALUES (1)")
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("SELECT * FROM nowhere")


async def test_a_stopped_server_is_an_outage_and_a_started_one_is_found_again(
    database: Database, postgres: Postgres
) -> None:
    """Whether it stops in the middle of a transaction or was gone before; no server's word is in the refusal."""

    async def interrupted() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO one VALUES (1)")
            await asyncio.to_thread(postgres.kill)
            await connection.execute("INSERT INTO one VALUES (2)")

    with pytest.raises(StorageUnavailable) as refused:
        await interrupted()
    assert refused.value.detail == "the store could not be read or written"
    with pytest.raises(StorageUnavailable):
        await database.fetch("SELECT 1")
    await asyncio.to_thread(postgres.start)
    assert await database.fetch("SELECT a FROM one") == []


async def test_a_process_that_pauses_in_a_transaction_loses_it(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks are free for others again; it is told when it goes on."""
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_MS", 50)
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a integer PRIMARY KEY);")
    hung, other = [await Database.open(postgres_url, "test", folder) for _ in range(2)]

    async def pause() -> None:
        async with hung.transaction() as connection:
            await connection.execute("INSERT INTO one VALUES (1)")
            # Waits for the lock of the one that pauses, until the server has ended that.
            await other.fetch("INSERT INTO one VALUES (1)")
            await connection.execute("INSERT INTO one VALUES (2)")

    with pytest.raises(StorageUnavailable):
        await pause()
    assert [row["a"] for row in await other.fetch("SELECT a FROM one")] == [1]
    await hung.close()
    await other.close()


async def test_a_closed_database_is_unavailable(database: Database) -> None:
    """What cannot be asked any more is refused with the reason that clients know; closing twice is no fault."""
    await database.close()
    await database.close()
    with pytest.raises(StorageUnavailable):
        await database.fetch("SELECT 1")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://somebody:secret@127.0.0.1:1/nowhere",
        "postgresql://somebody:secret@/nowhere?host=/nonexistent",
        "mysql://somebody:secret@127.0.0.1/nowhere",
    ],
)
async def test_where_no_server_is_the_refusal_says_so_and_keeps_the_password(url: str, tmp_path: Path) -> None:
    """Nobody listens, there is no such socket, or the address is another program's."""
    with pytest.raises(StorageUnavailable, match=r"PostgreSQL cannot be reached: \S") as refused:
        await Database.open(url, "test", tmp_path)
    assert "secret" not in str(refused.value)


async def test_an_unknown_database_is_named(postgres: Postgres, tmp_path: Path) -> None:
    """So that a slip in the address is seen."""
    with pytest.raises(StorageUnavailable, match='database "nope" does not exist'):
        await Database.open(postgres.url("nope"), "test", tmp_path)
