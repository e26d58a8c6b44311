"""Sources in PostgreSQL, for gateways that share them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import asyncpg
import structlog
from msgspec import json

from gateway.admin.records import Entry
from gateway.admin.store.port import (
    CHANGED_SINCE,
    Request,
    Snapshot,
    Written,
    after,
    decode_record,
    entries_of,
    read_entry,
    snapshot_of,
)
from mesh.postgres import Connection, Database

CHANNEL: Final = "clew_sources"
_RECONNECT_SECONDS: Final = 1.0
# Any number that no other program is likely to take for an advisory lock; not the one of the migrations.
_TURN: Final = 0x636C6578

_LAST = "SELECT coalesce(max(revision), 0) FROM source_changes"
_RECORD = "SELECT record FROM sources WHERE workspace = $1 AND name = $2"
_PUT = (
    "INSERT INTO sources (workspace, name, record) VALUES ($1, $2, $3)"
    " ON CONFLICT (workspace, name) DO UPDATE SET record = excluded.record"
)
_REMOVE = "DELETE FROM sources WHERE workspace = $1 AND name = $2"
_ADD = "INSERT INTO source_changes (revision, at_ns, actor, workspace, source, change) VALUES ($1, $2, $3, $4, $5, $6)"
_HISTORY = (
    "SELECT revision, at_ns, actor, workspace, source, change FROM source_changes"
    " WHERE workspace = $1 AND source = $2 AND revision < $3 ORDER BY revision DESC LIMIT $4"
)
# In the order of the hashes, so that two gateways that note the same keys never wait for each other in a circle.
_USED = (
    "INSERT INTO write_key_uses (sha256, last_use_ns) SELECT * FROM unnest($1::text[], $2::bigint[]) ORDER BY 1"
    " ON CONFLICT (sha256) DO UPDATE SET last_use_ns = greatest(write_key_uses.last_use_ns, excluded.last_use_ns)"
)
_CHANGED_SINCE = CHANGED_SINCE.format(since="$1")
_ABOVE_ALL = 2**63 - 1
_log = structlog.get_logger()


class PostgresSourceStore:
    """Keeps sources in PostgreSQL; who changes something tells the others by NOTIFY."""

    shared = True

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to a database and bring its schema up to date.

        Raises:
            StorageUnavailable: the database cannot be reached.
            MigrationError: its schema cannot be brought up to date.
        """
        migrations = "gateway.admin.store.migrations.postgres"
        return cls(await Database.open(url, "gateway.admin", migrations, most_connections=4), url)

    async def change(self, request: Request) -> Written:
        """Run a rule and record its changes; see `SourceStore`."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)
            return await _change(connection, request)

    async def load(self, since: int = 0) -> Snapshot:
        """Return what was changed since; see `SourceStore`."""
        async with (
            self._database.connection() as connection,
            # Both queries see the same moment.
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            revision = await connection.fetchval(_LAST)
            rows = await connection.fetch(_CHANGED_SINCE, since)
        return snapshot_of(map(tuple, rows), revision)

    async def revision(self) -> int:
        """Return the number of the last change; see `SourceStore`."""
        return int((await self._database.fetch(_LAST))[0][0])

    async def history(self, workspace: str, source: str, before: int | None, limit: int) -> list[Entry]:
        """Return a source's changes, newest first; see `SourceStore`."""
        bound = _ABOVE_ALL if before is None else before
        rows = await self._database.fetch(_HISTORY, workspace, source, bound, limit)
        return [read_entry(tuple(row)) for row in rows]

    async def record_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were used; see `SourceStore`."""
        await self._database.fetch(_USED, list(uses), list(uses.values()))

    async def last_uses(self) -> Mapping[str, int]:
        """Return when each key was used last; see `SourceStore`."""
        rows = await self._database.fetch("SELECT sha256, last_use_ns FROM write_key_uses")
        return {row["sha256"]: row["last_use_ns"] for row in rows}

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call back at every notification, and after every time at which one may have been missed; until cancelled."""
        told = True

        def listening() -> None:
            nonlocal told
            if not told:
                _log.info("told of changes of sources again")
            told = True
            # What was changed before we listened, nobody tells.
            changed()

        while True:
            try:
                await _listen(self._url, listening, changed)
                error = ""
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
                error = type(failure).__name__
            # Once for each outage, however often it is tried again.
            if told:
                _log.warning("not told of changes of sources", error=error or "the connection was lost")
            told = False
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        await self._database.close()


async def _change(connection: Connection, request: Request) -> Written:
    place = (request.workspace, request.source)
    text = await connection.fetchval(_RECORD, *place)
    last = await connection.fetchval(_LAST)
    record = decode_record(text) if text is not None else None
    entries = entries_of(request, record, last)
    if not entries:
        return Written(record, last)
    record = after(record, entries)
    if record is None:
        await connection.execute(_REMOVE, *place)
    else:
        await connection.execute(_PUT, *place, json.encode(record).decode())
    rows = [(e.revision, e.at_ns, e.actor, *place, json.encode(e.change).decode()) for e in entries]
    await connection.executemany(_ADD, rows)
    # Sent when the transaction commits, and never before.
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(entries[-1].revision))
    return Written(record, entries[-1].revision)


async def _listen(url: str, listening: Callable[[], None], changed: Callable[[], None]) -> None:
    """Listen on a connection of its own until that is lost."""
    lost = asyncio.Event()
    connection = await asyncpg.connect(url, timeout=5, server_settings={"application_name": "clew-gateway.watch"})
    try:
        connection.add_termination_listener(lambda _: lost.set())

        def on_notify(*_: Any) -> None:
            changed()

        await connection.add_listener(CHANNEL, on_notify)
        listening()
        await lost.wait()
    finally:
        connection.terminate()
