"""Claims and ledger in PostgreSQL, shared by several gateways.

A claim is a row with its owner, there before the message is published; publishing takes the owner out. A gateway that
ends without a word leaves its claims behind: the others read from the topics what it published and release the rest.

Whether it has ended the others tell by its lease. A gateway stops publishing by its own clock before its lease is over,
so that a slow or paused one does not publish what was released; what it had handed to Kafka's client by then is the
risk that is left (docs/decisions/0008).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self, TypeVar

from gateway.claims import postgres_sql as sql
from gateway.claims.crowding import Crowding
from gateway.claims.errors import LeaseLost
from gateway.claims.limits import Limits
from gateway.claims.offsets import offsets_from_json, offsets_to_json
from gateway.claims.port import Changes, Found, Held, LedgerQuery, Unfinished
from gateway.ledger.tally import Cell, Tally
from mesh.bus.port import Offsets
from mesh.errors import StorageUnavailable
from mesh.ids import new_id
from mesh.postgres import Database

LEASE_SECONDS: Final = 3.0
"""How long a gateway may be silent."""
GRACE_SECONDS: Final = 1.0
"""How long after the end of its lease a gateway is held for dead: what it published last has arrived by then."""
_STEP: Final = 5_000
"""Messages forgotten in one statement; a beat runs several, as long as there is more."""
_STEPS: Final = 10

T = TypeVar("T")


class PostgresClaims:
    """Keeps claims and ledger in a database that other gateways use too.

    Args:
        database: With the tables of `gateway.claims.postgres_migrations`.
        limits: How much is remembered.
        lease_seconds: How long this gateway may be silent.
        now: Seconds since the Unix epoch.
    """

    keeps_claims = True

    def __init__(
        self,
        database: Database,
        limits: Limits,
        *,
        lease_seconds: float = LEASE_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.owner = new_id()
        self._database = database
        self._limits = limits
        self._crowding = Crowding(limits)
        self._lease_seconds = lease_seconds
        self._now = now
        self._valid_until = 0.0
        self._entered = False
        self._rows = 0
        self._excess = 0

    @classmethod
    async def open(
        cls,
        url: str,
        limits: Limits,
        *,
        lease_seconds: float = LEASE_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> Self:
        """Connect and bring the tables up to date.

        Raises:
            StorageUnavailable: The database cannot be reached.
            MigrationError: Its tables cannot be brought up to date.
        """
        database = await Database.open(url, "gateway-claims", "gateway.claims.postgres_migrations")
        return cls(database, limits, lease_seconds=lease_seconds, now=now)

    async def claim(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Claim keys in one round trip; see `ClaimStore`."""
        now = self._now()
        ask = self._database.fetch(sql.CLAIM, self.owner, keys, self._limits.expiry(now), int(now))
        rows = await _whole(ask)
        held: dict[bytes, Held] = {}
        for key, published, owner, alive in rows:
            if not alive:
                raise self._lost()
            if published:
                held[key] = Held.PUBLISHED
            elif owner != self.owner:
                held[key] = Held.ELSEWHERE
        return held

    async def look(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Look the keys up; see `ClaimStore`."""
        rows = await self._database.fetch(sql.LOOK, self.owner, keys, int(self._now()))
        return {key: Held.PUBLISHED if owner is None else Held.ELSEWHERE for key, owner in rows}

    async def apply(self, changes: Changes) -> None:
        """Write changes in one statement, unless they were before; see `ClaimStore`.

        Offsets go with the next beat: older ones do no harm.
        """
        cells = list(changes.tally)
        columns = [[cell[column] for cell in cells] for column in range(4)]
        rows = await self._database.fetch(
            sql.APPLY,
            self.owner,
            changes.published,
            changes.released,
            changes.rejected,
            self._limits.expiry(self._now()),
            *columns,
            list(changes.tally.values()),
            changes.number,
        )
        if not rows and not await self._database.fetch(sql.APPLIED, self.owner, changes.number):
            raise self._lost()

    def may_publish(self) -> bool:
        """Whether the lease holds, by this process's own clock."""
        return time.monotonic() < self._valid_until

    async def renew(self, lows: Offsets, cluster: str) -> None:
        """Say that this gateway lives; see `ClaimStore`."""
        if not self._entered:
            # A gateway of this name is not settled: only another cluster matters.
            await self.forget(cluster, "")
        began = time.monotonic()
        statement = sql.RENEW if self._entered else sql.ENTER
        lease = (self.owner, self._lease_seconds, cluster, offsets_to_json(lows))
        if not await self._database.fetch(statement, *lease):
            raise self._lost()
        self._entered = True
        # Counted from before the question, so that it ends here before it ends there.
        self._valid_until = began + self._lease_seconds

    async def tidy(self) -> None:
        """Forget old messages and counts, a bounded number; see `ClaimStore`."""
        now = self._now()
        expired_are_gone = False
        for _ in range(_STEPS):
            if await self._forget_step(int(now), _STEP) < _STEP:
                expired_are_gone = True
                break
        await self._database.fetch(sql.FORGET_MINUTES, self._limits.first_minute(now))
        rows = (await self._database.fetch(sql.ROWS))[0]["rows"]
        if rows != self._rows:
            self._rows, self._excess = rows, max(0, rows - self._limits.max_rows)
        if self._excess:
            early = await self._forget_step(self._limits.expiry(now), min(self._excess, _STEP))
            self._excess -= early
            if early and expired_are_gone:
                self._crowding.tell(now)

    async def unfinished(self) -> Sequence[Unfinished]:
        """The gateways whose lease is over; see `ClaimStore`."""
        rows = await self._database.fetch(sql.UNFINISHED, self.owner, GRACE_SECONDS)
        return [Unfinished(owner, cluster, offsets_from_json(lows)) for owner, cluster, lows in rows]

    async def forget(self, cluster: str, owner: str) -> None:
        """Forget all messages in small steps; see `ClaimStore`.

        The cluster is noted with the last step: whoever comes after a crash goes on.
        """
        after: bytes | None = b""
        while after is not None:
            after = await self._forget_after(after, cluster, owner)

    async def recover(self, owner: str, found: Iterable[Found]) -> int:
        """Account for records; see `ClaimStore`."""
        rows = list(found)
        columns = [[row.cell[column] for row in rows] for column in range(4)]
        keys = [row.key for row in rows]
        expires = self._limits.expiry(self._now())
        news = await self._database.fetch(sql.RECOVER, owner, keys, *columns, expires)
        return int(news[0]["news"])

    async def settle(self, owner: str) -> None:
        """Release what an ended gateway had claimed; see `ClaimStore`."""
        await self._database.fetch(sql.SETTLE, owner)

    async def ledger(self, query: LedgerQuery) -> Tally:
        """Read counts; see `ClaimStore`."""
        bounds = (query.first_minute, query.end_minute, query.workspace, query.source, query.per_minute)
        return {Cell(*row[:4]): row["count"] for row in await self._database.fetch(sql.LEDGER, *bounds)}

    async def close(self, *, settled: bool) -> None:
        """Leave; see `ClaimStore`."""
        self._valid_until = 0.0
        if settled and self._entered:
            self._entered = False
            # Without it the others find nothing to recover once the lease is over.
            with suppress(StorageUnavailable):
                await self.settle(self.owner)
        await self._database.close()

    def _lost(self) -> LeaseLost:
        self._valid_until = 0.0
        return LeaseLost("other gateways took this one for dead; send the same events again")

    async def _forget_after(self, after: bytes, cluster: str, owner: str) -> bytes | None:
        """Forget the next messages by key; the last of them, or None when nothing is left to be forgotten.

        Gateways take turns, each asking anew: once one of them is done and publishes, no other goes on.
        """
        async with self._database.transaction() as connection:
            gone = await connection.fetchval(sql.OTHER_CLUSTER, cluster)
            if not gone and not await connection.fetch(sql.UNSETTLED, owner, cluster):
                return None
            last: bytes | None = await connection.fetchval(sql.FORGET_AFTER, after, _STEP)
            if last is None:
                await connection.execute(sql.NOTE_CLUSTER, cluster)
            return last

    async def _forget_step(self, expired: int, limit: int) -> int:
        async with self._database.connection() as connection:
            done = await connection.execute(sql.FORGET_OLDEST, expired, limit)
        # PostgreSQL's command tag: "DELETE" and the number of rows.
        return int(done.rpartition(" ")[2])


async def _whole(ask: Awaitable[T]) -> T:
    """Let a statement end although nobody waits any more: a claim must not appear after it was released.

    However often it is cancelled: a batch is when its clients leave, and again when its time is over.
    """
    asked = asyncio.ensure_future(ask)
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        while not asked.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((asked,))
        raise
