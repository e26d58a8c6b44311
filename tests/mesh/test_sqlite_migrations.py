"""mesh.sqlite migrations: numbered, once each, all or nothing."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.sqlite.migrations import MigrationError, apply_migrations, load_migrations


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """An empty database in memory, in autocommit mode."""
    opened = sqlite3.connect(":memory:", isolation_level=None)
    yield opened
    opened.close()


def write(folder: Path, **files: str) -> Path:
    """Write migration files, `m0001_name="SQL"` each, into a folder."""
    for name, sql in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(sql)
    return folder


def tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables that migrations made."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in rows} - {"schema_migrations"}


def test_migrations_run_in_order_and_once(tmp_path: Path, connection: sqlite3.Connection) -> None:
    """Each migration is applied exactly once; a later start applies only what is new."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a);", m0002_two="ALTER TABLE one RENAME TO two;")
    assert apply_migrations(connection, load_migrations(folder)) == 2
    assert apply_migrations(connection, load_migrations(folder)) == 0
    write(folder, m0003_three="CREATE TABLE three (a);")
    assert apply_migrations(connection, load_migrations(folder)) == 1
    assert tables(connection) == {"two", "three"}


def test_a_failing_migration_is_undone_whole(tmp_path: Path, connection: sqlite3.Connection) -> None:
    """When a statement fails, nothing of its migration stays, those before it do, and the error names it."""
    folder = write(tmp_path, m0001_good="CREATE TABLE good (a);", m0002_bad="CREATE TABLE half (a); CREATE NONSENSE;")
    with pytest.raises(MigrationError, match="0002_bad failed"):
        apply_migrations(connection, load_migrations(folder))
    assert tables(connection) == {"good"}
    assert not connection.in_transaction


def test_an_edited_migration_is_refused(tmp_path: Path, connection: sqlite3.Connection) -> None:
    """A migration whose text changed after it was applied stops the start."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a);")
    apply_migrations(connection, load_migrations(folder))
    write(folder, m0001_one="CREATE TABLE one (a, b);")
    with pytest.raises(MigrationError, match="0001_one was edited"):
        apply_migrations(connection, load_migrations(folder))


def test_a_newer_database_is_refused(tmp_path: Path, connection: sqlite3.Connection) -> None:
    """An older program does not touch a database that a newer one has migrated."""
    folder = write(tmp_path, m0001_one="CREATE TABLE one (a);", m0002_two="CREATE TABLE two (a);")
    apply_migrations(connection, load_migrations(folder))
    with pytest.raises(MigrationError, match="use a newer program"):
        apply_migrations(connection, load_migrations(folder)[:1])


def test_a_gap_or_a_stray_name_is_refused(tmp_path: Path) -> None:
    """Numbers run 1, 2, 3, ... and every .sql file is a migration."""
    write(tmp_path, m0001_one="SELECT 1;", m0003_three="SELECT 1;")
    with pytest.raises(MigrationError, match="0002 is missing"):
        load_migrations(tmp_path)
    write(tmp_path, notes="SELECT 1;")
    with pytest.raises(MigrationError, match=r"notes\.sql is not named"):
        load_migrations(tmp_path)
