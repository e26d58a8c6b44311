"""Numbered migrations: files `NNNN_name.sql`, applied once each, in order, never edited after they were applied."""

import hashlib
import importlib.resources
import re
import sqlite3
import time
from dataclasses import dataclass
from importlib.resources.abc import Traversable

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    applied_ns INTEGER NOT NULL
)
"""


class MigrationError(Exception):
    """The migrations cannot be read or applied, or the database was made by other ones than those at hand.

    It is no `ClewError`: it stops a process from starting, and no client ever sees it.
    """


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text, kept beside the version so that an edited migration is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(source: str | Traversable) -> list[Migration]:
    """Read all migrations of a package (by its dotted name) or a directory, in order.

    Raises:
        MigrationError: a `.sql` file is not named `NNNN_name.sql`, or the numbers are not 1, 2, 3, ... without a gap.
    """
    folder = importlib.resources.files(source) if isinstance(source, str) else source
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    migrations = [_load(entry) for entry in files]
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(f"migration {expected:04d} is missing: found {migration.version:04d}_{migration.name}")
    return migrations


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


def _load(entry: Traversable) -> Migration:
    match = _FILE_NAME.fullmatch(entry.name)
    if match is None:
        raise MigrationError(f"{entry.name} is not named NNNN_name.sql")
    return Migration(version=int(match[1]), name=match[2], sql=entry.read_text(encoding="utf-8"))


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
