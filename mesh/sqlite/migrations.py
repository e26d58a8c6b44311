"""Migrations in SQLite: each in a transaction of its own, noted in the database."""

import sqlite3
import time

from mesh.migrations import Migration, MigrationError, load_migrations

__all__ = ["Migration", "MigrationError", "apply_migrations", "load_migrations"]

_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    applied_ns INTEGER NOT NULL
)
"""


def apply_migrations(connection: sqlite3.Connection, migrations: list[Migration]) -> int:
    """Bring the schema up to the last migration; returns how many were applied. The connection must autocommit.

    Raises:
        MigrationError: an applied migration was edited, the database is newer than the code, or a statement failed
            (that migration is then rolled back whole).
    """
    connection.execute(_BOOKKEEPING)
    applied = connection.execute("SELECT version, name, sha256 FROM schema_migrations ORDER BY version").fetchall()
    if len(applied) > len(migrations):
        raise MigrationError(
            f"the database is at version {len(applied)}, this program knows {len(migrations)}: use a newer program"
        )
    for (version, name, sha256), migration in zip(applied, migrations, strict=False):
        if sha256 != migration.sha256:
            raise MigrationError(f"migration {version:04d}_{name} was edited after it was applied")
    pending = migrations[len(applied) :]
    for migration in pending:
        _apply(connection, migration)
    return len(pending)


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    # The version is recorded in the same transaction: a crash leaves a migration applied and known, or neither.
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{migration.sql}")
        connection.execute(
            "INSERT INTO schema_migrations (version, name, sha256, applied_ns) VALUES (?, ?, ?, ?)",
            (migration.version, migration.name, migration.sha256, time.time_ns()),
        )
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise MigrationError(f"migration {migration.version:04d}_{migration.name} failed: {error}") from error
