"""Numbered migrations, for a database that several components share.

Each component numbers its own. Processes that start together take turns, so that each migration runs once.
"""

import asyncpg

from mesh.migrations import Migration, MigrationError
from mesh.postgres.connection import Connection

# Any number that no other program is likely to take for an advisory lock: "clew" in ASCII.
_LOCK = 0x636C6577
_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    component    text        NOT NULL,
    version      integer     NOT NULL,
    name         text        NOT NULL,
    sha256       text        NOT NULL,
    applied_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, version)
)
"""
_APPLIED = "SELECT version, name, sha256 FROM schema_migrations WHERE component = $1 ORDER BY version"
_RECORD = "INSERT INTO schema_migrations (component, version, name, sha256) VALUES ($1, $2, $3, $4)"


async def apply_migrations(connection: Connection, component: str, migrations: list[Migration]) -> int:
    """Bring a component's tables up to the last migration; returns how many were applied.

    Raises:
        MigrationError: an applied migration was edited, the database is newer than the code, or a statement failed
            (then none of the pending migrations stands).
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_BOOKKEEPING)
        pending = migrations[await _check_applied(connection, component, migrations) :]
        for migration in pending:
            await _apply(connection, component, migration)
        return len(pending)


async def _check_applied(connection: Connection, component: str, migrations: list[Migration]) -> int:
    """How many were applied before."""
    applied = await connection.fetch(_APPLIED, component)
    if len(applied) > len(migrations):
        raise MigrationError(
            f"{component} is at version {len(applied)} in the database, this program knows {len(migrations)}:"
            " use a newer program"
        )
    for row, migration in zip(applied, migrations, strict=False):
        if row["sha256"] != migration.sha256:
            raise MigrationError(
                f"{component}: migration {row['version']:04d}_{row['name']} was edited after it was applied"
            )
    return len(applied)


async def _apply(connection: Connection, component: str, migration: Migration) -> None:
    try:
        await connection.execute(migration.sql)
    except asyncpg.PostgresError as error:
        name = f"{migration.version:04d}_{migration.name}"
        raise MigrationError(f"{component}: migration {name} failed: {error}") from error
    await connection.execute(_RECORD, component, migration.version, migration.name, migration.sha256)
