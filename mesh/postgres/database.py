"""One PostgreSQL database that many processes may share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources.abc import Traversable
from typing import Self

import asyncpg

from mesh.errors import StorageUnavailable
from mesh.migrations import load_migrations
from mesh.postgres.connection import Connection, ConnectionPool, Row
from mesh.postgres.errors import storage_error
from mesh.postgres.migrations import apply_migrations

# A statement of ours takes milliseconds; one that takes this long hangs, and its caller is better told.
STATEMENT_SECONDS = 5.0
# How long opening a connection may take, and waiting for one of the pool's.
CONNECT_SECONDS = 5.0
# A transaction of ours never pauses; one that does for this long has lost its process.
IDLE_IN_TRANSACTION_MS = 10_000
# Running statements get so long to end when the database is closed.
_CLOSE_SECONDS = 5.0


class Database:
    """A pool of connections to a database whose schema is up to date.

    Statements that fail because the database cannot answer raise StorageUnavailable; a broken constraint stays the
    `asyncpg` error that it is. Make one with `open`; all methods are for one event loop.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str, component: str, migrations: str | Traversable, *, most_connections: int = 8) -> Self:
        """Connect and bring the component's tables up to date.

        Args:
            url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters (`?host=/socket/folder`).
            component: whose migrations these are; every component numbers its own.
            migrations: dotted name of the package, or the directory, that holds the `NNNN_name.sql` files.
            most_connections: how many the pool opens at most, 1 to 100; it opens them as they are needed.

        Raises:
            StorageUnavailable: the database cannot be reached; the detail says why and never shows the password.
            MigrationError: the schema cannot be brought up to date.
        """
        pool = await _connect(url, component, most_connections)
        database = cls(pool)
        try:
            async with database.connection() as connection:
                await apply_migrations(connection, component, load_migrations(migrations))
        except BaseException:
            await database.close()
            raise
        return database

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; each statement is a transaction of its own unless one is begun.

        Raises:
            StorageUnavailable: none is to be had, or a statement in the block failed for want of the database.
        """
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                yield connection
        except Exception as error:
            raised = storage_error(error)
            if raised is error:
                raise
            raise raised from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection with a transaction begun: it commits at the end of the block, or is undone.

        Raises:
            StorageUnavailable: see `connection`. When the commit itself fails so, it may stand all the same.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: object) -> list[Row]:
        """Run one query and return all rows.

        Raises:
            StorageUnavailable: the database cannot answer.
        """
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    async def close(self) -> None:
        """Let running statements end, a bounded time, and close all connections. Idempotent."""
        try:
            await asyncio.wait_for(self._pool.close(), _CLOSE_SECONDS)
        except TimeoutError:
            self._pool.terminate()


async def _connect(url: str, component: str, most_connections: int) -> ConnectionPool:
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=most_connections,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings={
                "application_name": f"clew-{component}",
                # A process that hangs, or is frozen, in a transaction must not keep its locks from all others.
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
            },
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StorageUnavailable(f"PostgreSQL cannot be reached: {str(error) or type(error).__name__}") from error
