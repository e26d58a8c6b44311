"""Sources in a SQLite file."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

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
from mesh.sqlite import Database

_LAST = "SELECT coalesce(max(revision), 0) FROM source_changes"
_RECORD = "SELECT record FROM sources WHERE workspace = ? AND name = ?"
_PUT = (
    "INSERT INTO sources (workspace, name, record) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
)
_REMOVE = "DELETE FROM sources WHERE workspace = ? AND name = ?"
_ADD = "INSERT INTO source_changes (revision, at_ns, actor, workspace, source, change) VALUES (?, ?, ?, ?, ?, ?)"
_HISTORY = (
    "SELECT revision, at_ns, actor, workspace, source, change FROM source_changes"
    " WHERE workspace = ? AND source = ? AND revision < ? ORDER BY revision DESC LIMIT ?"
)
_USED = (
    "INSERT INTO write_key_uses (sha256, last_use_ns) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET last_use_ns = max(last_use_ns, excluded.last_use_ns)"
)
_CHANGED_SINCE = CHANGED_SINCE.format(since="?")
_ABOVE_ALL = 2**63 - 1


class SqliteSourceStore:
    """Keeps sources in one SQLite file, which this process alone has open."""

    shared = False

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path | None) -> Self:
        """Open or create the file; None: a temporary one. Blocks: call it while the process starts.

        Raises:
            StorageUnavailable: the file cannot be opened, or another process owns it.
            MigrationError: its schema cannot be brought up to date.
        """
        return cls(Database.open(path, "gateway.admin.store.migrations.sqlite"))

    async def change(self, request: Request) -> Written:
        """Run a rule and record its changes; see `SourceStore`."""
        return await self._database.write(lambda connection: _change(connection, request))

    async def load(self, since: int = 0) -> Snapshot:
        """Return what was changed since; see `SourceStore`."""
        # The number first: what is written in between is read twice, and not left out.
        revision = await self.revision()
        return snapshot_of(self._database.fetch_all(_CHANGED_SINCE, (since,)), revision)

    async def revision(self) -> int:
        """Return the number of the last change; see `SourceStore`."""
        return int(self._database.fetch_all(_LAST)[0][0])

    async def history(self, workspace: str, source: str, before: int | None, limit: int) -> list[Entry]:
        """Return a source's changes, newest first; see `SourceStore`."""
        bound = _ABOVE_ALL if before is None else before
        rows = self._database.fetch_all(_HISTORY, (workspace, source, bound, limit))
        return [read_entry(row) for row in rows]

    async def record_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were used; see `SourceStore`."""
        rows = list(uses.items())
        await self._database.write(lambda connection: connection.executemany(_USED, rows).close())

    async def last_uses(self) -> Mapping[str, int]:
        """Return when each key was used last; see `SourceStore`."""
        return dict(self._database.fetch_all("SELECT sha256, last_use_ns FROM write_key_uses"))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Return at once: nobody else has the file open."""

    async def close(self) -> None:
        """Commit what is queued and release the file."""
        await self._database.close()


def _change(connection: sqlite3.Connection, request: Request) -> Written:
    place = (request.workspace, request.source)
    row = connection.execute(_RECORD, place).fetchone()
    (last,) = connection.execute(_LAST).fetchone()
    record = decode_record(row[0]) if row else None
    entries = entries_of(request, record, last)
    if not entries:
        return Written(record, last)
    record = after(record, entries)
    if record is None:
        connection.execute(_REMOVE, place)
    else:
        connection.execute(_PUT, (*place, json.encode(record).decode()))
    rows = [(e.revision, e.at_ns, e.actor, *place, json.encode(e.change).decode()) for e in entries]
    connection.executemany(_ADD, rows)
    return Written(record, entries[-1].revision)
