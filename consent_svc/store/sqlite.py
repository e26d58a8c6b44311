"""The ledger in a SQLite file."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self

from consent_svc.ledger import Entry, Statement, enter
from mesh.sqlite import Database

_ENTRY = "epoch, subject, granted, denied, origin, policy_version, decide_ns, record_ns"
_LAST = "SELECT epoch, record_ns FROM consent_entries WHERE workspace = ? ORDER BY epoch DESC LIMIT 1"
_INSERT = f"INSERT INTO consent_entries (workspace, {_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 -- constants
_OF_SUBJECTS = (
    f"SELECT {_ENTRY} FROM consent_entries "  # noqa: S608 -- constants
    "WHERE workspace = ? AND subject IN (SELECT value FROM json_each(?))"
)
_HISTORY = (
    f"SELECT {_ENTRY} FROM consent_entries "  # noqa: S608 -- constants
    "WHERE workspace = ? AND subject = ? AND epoch < ? ORDER BY epoch DESC LIMIT ?"
)
_LAST_EPOCHS = "SELECT workspace, MAX(epoch) FROM consent_entries GROUP BY workspace"
_ABOVE_ALL = 2**63 - 1


class SqliteConsentStore:
    """Keeps the ledger in one SQLite file, which this process alone has open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path | None) -> Self:
        """Open or create the file; None: a temporary one. Blocks: call it while the process starts.

        Raises:
            StorageUnavailable: the file cannot be opened, or another process owns it.
            MigrationError: its schema cannot be brought up to date.
        """
        return cls(Database.open(path, "consent_svc.store.migrations"))

    async def append(self, statement: Statement, now_ns: int) -> Entry:
        """Add an entry; see `ConsentStore`."""
        return await self._database.write(lambda connection: _append(connection, statement, now_ns))

    async def entries_of(self, workspace: str, subjects: Collection[str]) -> Mapping[str, list[Entry]]:
        """Return all entries of some subjects; see `ConsentStore`. One query, whatever their number."""
        found: dict[str, list[Entry]] = {}
        for row in self._database.fetch_all(_OF_SUBJECTS, (workspace, json.dumps(list(subjects)))):
            entry = Entry(*row)
            found.setdefault(entry.subject, []).append(entry)
        return found

    async def history(self, workspace: str, subject: str, before_epoch: int | None, limit: int) -> list[Entry]:
        """Return a subject's entries, newest first; see `ConsentStore`."""
        bound = _ABOVE_ALL if before_epoch is None else before_epoch
        return [Entry(*row) for row in self._database.fetch_all(_HISTORY, (workspace, subject, bound, limit))]

    async def last_epochs(self) -> Mapping[str, int]:
        """Return the last epoch of each workspace; see `ConsentStore`."""
        return dict(self._database.fetch_all(_LAST_EPOCHS))

    async def close(self) -> None:
        """Commit what is queued and release the file."""
        await self._database.close()


def _append(connection: sqlite3.Connection, statement: Statement, now_ns: int) -> Entry:
    last_epoch, last_record_ns = connection.execute(_LAST, (statement.workspace,)).fetchone() or (0, 0)
    entry = enter(statement, last_epoch, last_record_ns, now_ns)
    connection.execute(
        _INSERT,
        (
            statement.workspace,
            entry.epoch,
            entry.subject,
            entry.granted,
            entry.denied,
            entry.origin,
            entry.policy_version,
            entry.decide_ns,
            entry.record_ns,
        ),
    )
    return entry
