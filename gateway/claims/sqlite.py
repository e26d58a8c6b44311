"""Claims and ledger in a SQLite file: one gateway, which keeps what is in flight in its memory.

Nothing is written before a message is published. The topic is the log and this file its index: `lows` says from where
on the topics may hold records that are missing here, and a start reads them back.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from gateway.claims import sqlite_rows as rows
from gateway.claims.crowding import Crowding
from gateway.claims.keys import KEY_BYTES
from gateway.claims.limits import Limits
from gateway.claims.offsets import offsets_from_json
from gateway.claims.port import Changes, Found, Held, LedgerQuery, Unfinished
from gateway.claims.prefixes import Prefixes
from gateway.claims.staging import Move, Staging
from gateway.ledger.tally import Cell, Tally, add
from mesh.bus.port import Offsets
from mesh.sqlite import Database

STAGED: Final = 65_536
"""Messages that wait in memory for their place in the table; they are durable before."""
_CACHE_KIB: Final = 32_768


class SqliteClaims:
    """Keeps claims and ledger in one SQLite file, which this process alone has open.

    Args:
        database: The file.
        owner: Who this gateway is.
        limits: How much is remembered.
        staged: How many messages may wait in memory for their place in the table.
        now: Seconds since the Unix epoch.
    """

    keeps_claims = False

    def __init__(
        self,
        database: Database,
        owner: str,
        limits: Limits,
        *,
        staged: int = STAGED,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.owner = owner
        self._database = database
        self._limits = limits
        self._crowding = Crowding(limits)
        self._now = now
        self._begun = False
        self._staging = Staging(staged)
        self._prefixes = Prefixes(empty=not database.fetch_all("SELECT size FROM position")[0][0])
        self._number = 0
        # Up to which row what was added is in the table; the next group takes those rows out.
        self._moved = 0
        # Ranges move one group at a time.
        self._applying = asyncio.Lock()
        for number, keys, expires in database.fetch_all("SELECT number, keys, expires FROM added ORDER BY number"):
            self._number = number
            self._staging.add(number, _split(keys), expires)

    @classmethod
    async def open(
        cls,
        path: Path | None,
        limits: Limits | None = None,
        *,
        staged: int = STAGED,
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
        owner = await database.write(lambda connection: (connection.execute(cache), rows.enter(connection))[1])
        return cls(database, owner, limits or Limits(), staged=staged, now=now)

    async def claim(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Look the keys up; see `ClaimStore`. Whoever asks keeps what is in flight itself."""
        return await self.look(keys)

    async def look(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Look the keys up; see `ClaimStore`."""
        now = int(self._now())
        # Not every question is one to the file: a closed one must not be taken for one that knows nothing.
        self._database.read()
        known = self._staging.known(keys, now)
        if candidates := self._prefixes.candidates(keys):
            given: dict[str, object] = {"keys": b"".join(candidates), "count": len(candidates), "now": now}
            known += [key for (key,) in self._database.fetch_all(rows.KNOWN, given)]
        return dict.fromkeys(known, Held.PUBLISHED)

    async def apply(self, changes: Changes) -> None:
        """Write changes in one transaction and no other: a group that fails is not written; see `ClaimStore`."""
        keys = changes.published + changes.rejected
        now = int(self._now())
        expires = self._limits.expiry(now)
        async with self._applying:
            moves = self._staging.next_moves(len(keys))
            number, moved = self._number + 1, self._moved

            def run(connection: sqlite3.Connection) -> dict[int, list[bytes]]:
                if moved:
                    rows.forget_appended(connection, moved)
                if keys:
                    rows.append(connection, number, keys, expires)
                rows.add_counts(connection, changes.tally)
                if self._begun:
                    rows.set_position(connection, changes.cluster, changes.lows)
                return self._tidy(connection, moves, now)

            ranges = await self._database.write(run)
            for move in moves:
                if move.number in ranges:
                    self._prefixes.replace(move.number, ranges[move.number])
                else:
                    self._prefixes.add(move.number, move.keys)
            self._moved = self._staging.moved(moves)
            if keys:
                self._number = number
                self._staging.add(number, keys, expires)

    def may_publish(self) -> bool:
        """Nobody else decides about this gateway's claims."""
        return True

    async def renew(self, lows: Offsets, cluster: str) -> None:
        """Nobody asks whether this gateway lives; the first call tells where its records begin."""
        if not self._begun:
            await self._database.write(lambda connection: rows.set_position(connection, cluster, lows))
            self._begun = True

    async def tidy(self) -> None:
        """Nothing is left to do: each group of changes takes along some of what is old."""

    async def unfinished(self) -> Sequence[Unfinished]:
        """This gateway's own predecessor, until the first `renew`; see `ClaimStore`."""
        if self._begun:
            return []
        ((owner, cluster, lows),) = self._database.fetch_all("SELECT owner, cluster, lows FROM position")
        return [Unfinished(owner, cluster, None if lows is None else offsets_from_json(lows))]

    async def forget(self, cluster: str, owner: str) -> None:  # noqa: ARG002 - there is only one
        """Forget all messages; see `ClaimStore`."""

        def run(connection: sqlite3.Connection) -> None:
            rows.forget_messages(connection)
            rows.set_position(connection, cluster, None)

        async with self._applying:
            await self._database.write(run)
            self._staging.clear()
            self._prefixes.clear()

    async def recover(self, owner: str, found: Iterable[Found]) -> int:  # noqa: ARG002 - there is only one
        """Add what is missing; see `ClaimStore`."""
        now = int(self._now())
        given = {one.key: one for one in found}
        known = await self.look(list(given))
        news = [one for key, one in given.items() if key not in known]
        tally: Tally = {}
        for one in news:
            add(tally, one.cell)

        def run(connection: sqlite3.Connection) -> None:
            rows.insert(connection, [one.key for one in news], self._limits.expiry(now))
            rows.add_counts(connection, tally)

        await self._database.write(run)
        for one in news:
            self._prefixes.add(one.key[0], [one.key])
        return len(news)

    async def settle(self, owner: str) -> None:
        """Nothing was claimed here beyond what was published."""

    async def ledger(self, query: LedgerQuery) -> Tally:
        """Read counts; see `ClaimStore`."""
        return {Cell(*row[:4]): row[4] for row in self._database.fetch_all(rows.LEDGER, query._asdict())}

    async def close(self, *, settled: bool) -> None:  # noqa: ARG002 - the next start reads the topics in any case
        """Commit what is queued and release the file."""
        await self._database.close()

    def _tidy(self, connection: sqlite3.Connection, moves: list[Move], now: int) -> dict[int, list[bytes]]:
        """Move ranges and forget what is old; the beginnings of the keys of each range that is to be known anew."""
        changed = rows.move_all(connection, moves, self._limits, now, self._staging.cycles, crowding=self._crowding)
        rows.forget_minutes(connection, self._limits.first_minute(now))
        visited = {move.number for move in moves}
        stale = {number for number in visited if number in changed or self._prefixes.unread(number)}
        return {number: rows.beginnings(connection, number) for number in stale}


def _split(keys: bytes) -> list[bytes]:
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]
