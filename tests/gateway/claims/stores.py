"""The stores that the contract of claims runs against, behind one small interface."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import asyncpg

from gateway.claims.limits import Limits
from gateway.claims.port import ClaimStore
from gateway.claims.postgres import PostgresClaims
from gateway.claims.sqlite import SqliteClaims


class Clock:
    """The time of day, in seconds, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        """Now."""
        return self.seconds


class Shelf(Protocol):
    """A place for stores, opened one after the other as processes do."""

    async def open(self, clock: Callable[[], float], limits: Limits | None = None) -> ClaimStore:
        """Open the store as the next run of a gateway."""
        ...

    async def crash(self, store: ClaimStore) -> None:
        """End a run without a word: its store is let go of, and nothing is settled."""
        ...


class SqliteShelf:
    """One file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "gateway.db"

    async def open(self, clock: Callable[[], float], limits: Limits | None = None) -> ClaimStore:
        """See `Shelf`."""
        # Few messages in memory, so that the table is used.
        return await SqliteClaims.open(self._path, limits, staged=32, now=clock)

    async def crash(self, store: ClaimStore) -> None:
        """See `Shelf`; what is durable is so with or without the close."""
        await store.close(settled=False)


class PostgresShelf:
    """One database."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, clock: Callable[[], float], limits: Limits | None = None) -> ClaimStore:
        """See `Shelf`."""
        return await PostgresClaims.open(self.url, limits or Limits(), now=clock)

    async def crash(self, store: ClaimStore) -> None:
        """See `Shelf`; its lease is over at once, so that no test waits for it."""
        assert isinstance(store, PostgresClaims)
        await expire(store)
        await store.close(settled=False)


async def expire(store: PostgresClaims) -> None:
    """End the lease of a gateway, as time would."""
    await store._database.fetch("UPDATE gateways SET lease_until = '-infinity' WHERE owner = $1", store.owner)


async def until_waiting(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Return once a statement of somebody else waits for a lock."""
    async with asyncio.timeout(5):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(shelf: Shelf, clock: Callable[[], float], limits: Limits | None = None) -> AsyncIterator[ClaimStore]:
    """A store that is closed in order at the end."""
    store = await shelf.open(clock, limits)
    try:
        yield store
    finally:
        await store.close(settled=True)


OpenStore = Callable[[], AbstractAsyncContextManager[ClaimStore]]
