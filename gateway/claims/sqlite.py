"""Claims and ledger in a SQLite file: one gateway, which keeps what is in flight in its memory.

Nothing is written before a message is published. The topic is the log and this table its index: `lows` says from where
on the topics may hold records that are missing here, and a start reads them back.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from gateway.claims.limits import Limits
from gateway.claims.offsets import offsets_from_json, offsets_to_json
from gateway.claims.port import Changes, Found, Held, LedgerQuery, Unfinished
from gateway.ledger.tally import Cell, Tally, add
from mesh.bus.port import Offsets
from mesh.ids import new_id
from mesh.sqlite import Database

# The keys of a batch come as one blob, taken apart in C: a statement for each row would take and give back the
# interpreter's lock every time, and a busy event loop makes that wait.
_SPLIT: Final = (
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count),"
    " given(key) AS (SELECT CAST(substr(:keys, i * 16 + 1, 16) AS BLOB) FROM n)"
)
_KNOWN: Final = f"{_SPLIT} SELECT given.key FROM given CROSS JOIN messages USING (key) WHERE expires > :now"  # noqa: S608 - constants
# A row that has expired and is not gone yet makes room, so that its successor stands in the order of expiry.
_ADD: Final = f"{_SPLIT} INSERT OR REPLACE INTO messages (key, expires) SELECT key, :expires FROM given"  # noqa: S608
_COUNT: Final = (
    "INSERT INTO ledger (workspace, source, minute, outcome, count) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)
_MOVE: Final = "UPDATE position SET cluster = ?, lows = ?"
_FORGET_OLDEST: Final = (
    "DELETE FROM messages WHERE number IN (SELECT number FROM messages ORDER BY number LIMIT ?) AND expires <= ?"
)
_FORGET_BEYOND: Final = (
    "DELETE FROM messages WHERE number IN (SELECT number FROM messages ORDER BY number LIMIT ?)"
    " AND number <= (SELECT MAX(number) FROM messages) - ?"
)
_FORGET_MINUTES: Final = "DELETE FROM ledger WHERE minute < ?"
# What one group of changes takes out at most, beside as much again as it adds.
_STEP: Final = 200
_CACHE_KIB: Final = 32_768


class SqliteClaims:
    """Keeps claims and ledger in one SQLite file, which this process alone has open.

    Args:
        database: The file.
        owner: Who this gateway is.
        limits: How much is remembered.
        now: Seconds since the Unix epoch.
    """

    keeps_claims = False

    def __init__(self, database: Database, owner: str, limits: Limits, *, now: Callable[[], float] = time.time) -> None:
        self.owner = owner
        self._database = database
        self._limits = limits
        self._now = now
        self._begun = False

    @classmethod
    async def open(
        cls,
        path: Path | None,
        limits: Limits | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> Self:
        """Open or create the file; None: a temporary one.

        Raises:
            StorageUnavailable: The file cannot be opened, or another process owns it.
            MigrationError: Its schema cannot be brought up to date.
        """
        database = Database.open(path, "gateway.claims.sqlite_migrations")
        cache = f"PRAGMA cache_size = -{_CACHE_KIB}"
        database.read().execute(cache)
        owner = await database.write(lambda connection: (connection.execute(cache), _owner(connection))[1])
        return cls(database, owner, limits or Limits(), now=now)

    async def claim(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Look the keys up; see `ClaimStore`. Whoever asks keeps what is in flight itself."""
        parameters = {"keys": b"".join(keys), "count": len(keys), "now": int(self._now())}
        # Named parameters, which the database's own helper has no need for otherwise.
        rows = self._database.fetch_all(_KNOWN, parameters)
        return {key: Held.PUBLISHED for (key,) in rows} if rows else {}

    async def apply(self, changes: Changes) -> None:
        """Write changes in one transaction; see `ClaimStore`."""
        now = int(self._now())
        await self._database.write(lambda connection: self._apply(connection, changes, now))

    def may_publish(self) -> bool:
        """Nobody else decides about this gateway's claims."""
        return True

    async def renew(self, lows: Offsets, cluster: str) -> None:
        """Nobody asks whether this gateway lives; the first call tells where its records begin."""
        if not self._begun:
            await self._database.write(lambda connection: _move(connection, cluster, lows))
            self._begun = True

    async def unfinished(self) -> Sequence[Unfinished]:
        """This gateway's own predecessor, until the first `renew`; see `ClaimStore`."""
        if self._begun:
            return []
        ((owner, cluster, lows),) = self._database.fetch_all("SELECT owner, cluster, lows FROM position")
        return [Unfinished(owner, cluster, None if lows is None else offsets_from_json(lows))]

    async def forget(self, cluster: str) -> None:
        """Forget all messages; see `ClaimStore`."""

        def run(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM messages")
            connection.execute(_MOVE, (cluster, None))

        await self._database.write(run)

    async def recover(self, owner: str, found: Iterable[Found]) -> int:  # noqa: ARG002 - there is only one
        """Add what is missing; see `ClaimStore`."""
        now = int(self._now())
        rows = list(found)
        return await self._database.write(lambda connection: self._recover(connection, rows, now))

    async def settle(self, owner: str) -> None:
        """Nothing was claimed here beyond what was published."""

    async def ledger(self, query: LedgerQuery) -> Tally:
        """Read counts; see `ClaimStore`."""
        minute = "minute" if query.per_minute else "0"
        sql = (
            f"SELECT workspace, source, {minute}, outcome, SUM(count) FROM ledger"  # noqa: S608 - one of two constants
            " WHERE minute >= ? AND minute < ? AND (? = '' OR workspace = ?) AND (? = '' OR source = ?)"
            " GROUP BY 1, 2, 3, 4"
        )
        workspace, source = query.workspace, query.source
        parameters = (query.first_minute, query.end_minute, workspace, workspace, source, source)
        return {Cell(*row[:4]): row[4] for row in self._database.fetch_all(sql, parameters)}

    async def close(self, *, settled: bool) -> None:  # noqa: ARG002 - the next start reads the topics in any case
        """Commit what is queued and release the file."""
        await self._database.close()

    def _apply(self, connection: sqlite3.Connection, changes: Changes, now: int) -> None:
        self._add(connection, changes.published + changes.rejected, now)
        connection.executemany(_COUNT, [(*cell, count) for cell, count in changes.tally.items()])
        _move(connection, changes.cluster, changes.lows)
        self._forget(connection, len(changes.published) + len(changes.rejected), now)

    def _add(self, connection: sqlite3.Connection, keys: list[bytes], now: int) -> None:
        if keys:
            connection.execute(_ADD, {"keys": b"".join(keys), "count": len(keys), "expires": self._limits.expiry(now)})

    def _forget(self, connection: sqlite3.Connection, added: int, now: int) -> None:
        step = added + _STEP
        connection.execute(_FORGET_OLDEST, (step, now))
        connection.execute(_FORGET_BEYOND, (step, self._limits.max_rows))
        connection.execute(_FORGET_MINUTES, (self._limits.first_minute(now),))

    def _recover(self, connection: sqlite3.Connection, rows: list[Found], now: int) -> int:
        tally: Tally = {}
        news = 0
        for key, cell in rows:
            if connection.execute("SELECT 1 FROM messages WHERE key = ? AND expires > ?", (key, now)).fetchone():
                continue
            self._add(connection, [key], now)
            add(tally, cell)
            news += 1
        connection.executemany(_COUNT, [(*cell, count) for cell, count in tally.items()])
        return news


def _owner(connection: sqlite3.Connection) -> str:
    """Who this gateway is, made up on the first start."""
    connection.execute("INSERT OR IGNORE INTO position (one, owner) VALUES (1, ?)", (new_id(),))
    owner: str = connection.execute("SELECT owner FROM position").fetchone()[0]
    return owner


def _move(connection: sqlite3.Connection, cluster: str, lows: Offsets) -> None:
    connection.execute(_MOVE, (cluster, offsets_to_json(lows)))
