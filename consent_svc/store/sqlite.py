"""The ledger in a SQLite file."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from consent_svc.ledger import Entry, Statement, enter
from mesh.sqlite import Database

_ENTRY = "epoch, subject, granted, denied, origin, policy_version, decide_ns, record_ns, clock_behind"
# The index is named, for SQLite would rather walk through the whole workspace by the primary key.
_FROM_SUBJECT = "FROM consent_entries INDEXED BY consent_entries_by_subject WHERE workspace = ? AND subject"
_LAST = "SELECT epoch, record_ns FROM consent_entries WHERE workspace = ? ORDER BY epoch DESC LIMIT 1"
_INSERT = f"INSERT INTO consent_entries (workspace, {_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 -- constants
_OF_SUBJECTS = f"SELECT {_ENTRY} {_FROM_SUBJECT} IN"
_HISTORY = f"SELECT {_ENTRY} {_FROM_SUBJECT} = ? AND epoch < ? ORDER BY epoch DESC LIMIT ?"
# From one workspace to the next by the index, where GROUP BY would walk through all entries, while every check waits.
_LAST_EPOCHS = """
WITH RECURSIVE workspaces (name) AS (
    SELECT MIN(workspace) FROM consent_entries
    UNION ALL
    SELECT (SELECT MIN(workspace) FROM consent_entries WHERE workspace > name) FROM workspaces WHERE name IS NOT NULL
)
SELECT name, (SELECT MAX(epoch) FROM consent_entries WHERE workspace = name) FROM workspaces WHERE name IS NOT NULL
"""
_ABOVE_ALL = 2**63 - 1
# Subjects in one SELECT. Lists are padded to one of two lengths, so that only two texts of it are prepared.
_FEW, _MANY = 4, 256


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
        """Return all entries of some subjects; see `ConsentStore`."""
        found: dict[str, list[Entry]] = {}
        for names in _padded(list(subjects)):
            sql = f"{_OF_SUBJECTS} ({','.join('?' * len(names))})"
            for row in self._database.fetch_all(sql, (workspace, *names)):
                entry = _entry(row)
                found.setdefault(entry.subject, []).append(entry)
        return found

    async def history(self, workspace: str, subject: str, before_epoch: int | None, limit: int) -> list[Entry]:
        """Return a subject's entries, newest first; see `ConsentStore`."""
        bound = _ABOVE_ALL if before_epoch is None else before_epoch
        return [_entry(row) for row in self._database.fetch_all(_HISTORY, (workspace, subject, bound, limit))]

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
            entry.clock_behind,
        ),
    )
    return entry


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(*(*row[:-1], bool(row[-1])))


def _padded(names: list[str]) -> Iterator[list[str]]:
    """Cut a list into pieces of one of two lengths; the last name is repeated."""
    for start in range(0, len(names), _MANY):
        piece = names[start : start + _MANY]
        size = _FEW if len(piece) <= _FEW else _MANY
        yield piece + [piece[-1]] * (size - len(piece))
