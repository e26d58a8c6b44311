"""What a gateway has learnt and the store does not know yet: gathered, and written behind the requests in groups.

A published message need not be durable here before its request is answered: it is on the topic, and a restart reads it
back from there. What is on no topic is answered once its count is durable (`kept`).
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from gateway.claims.claim import Claim
from gateway.claims.errors import LeaseLost
from gateway.claims.port import Changes, ClaimStore
from gateway.ledger.tally import Tally
from mesh.bus.port import Offsets
from mesh.errors import StorageUnavailable

GATHER_SECONDS: Final = 0.02
"""How long changes that nobody waits for gather company before they are written."""
_RETRY_SECONDS: Final = 0.5

Released = list[tuple[Claim, list[bytes]]]


class _Group(NamedTuple):
    """Changes that are written together, and who waits for them."""

    changes: Changes
    released: Released
    waiting: list[asyncio.Future[None]]


class Journal:
    """Writes changes behind, in the order in which they became known.

    Args:
        store: Where to.
        position: Tells the offsets below which everything is accounted for once all changes of now are durable, and of
            which cluster they are.
        released: Called with what was released once the store knows.
        lost: Called once when the store says that this gateway's lease is lost.
    """

    def __init__(
        self,
        store: ClaimStore,
        position: Callable[[], tuple[str, Offsets]],
        released: Callable[[Released], None],
        lost: Callable[[], None],
    ) -> None:
        self._store = store
        self._position = position
        self._on_released = released
        self._on_lost = lost
        self._log = structlog.get_logger("gateway.claims")
        self._changes = Changes()
        self._released: Released = []
        self._waiting: list[asyncio.Future[None]] = []
        self._held: _Group | None = None
        self._durable: tuple[str, Offsets] | None = None
        self._number = 0
        self._hurry = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._failing = False
        self._stopped = False
        self.recent: set[bytes] = set()
        """Keys that are published and not durable yet."""

    def publish(self, keys: Sequence[bytes]) -> None:
        """Messages are on the events topic."""
        self.recent.update(keys)
        self._changes.published += keys
        self._start()

    def reject(self, keys: Sequence[bytes]) -> None:
        """Records are on the failed topic."""
        self._changes.rejected += keys
        self._start()

    def release(self, claim: Claim, keys: list[bytes]) -> None:
        """Claimed messages are on no topic."""
        self._released.append((claim, keys))
        self._start()

    def durable_position(self) -> tuple[str, Offsets] | None:
        """Offsets below which everything is accounted for in the store already; None while nothing was ever written.

        What is settled and not written stands below the position of now: a gateway that takes over must read it.
        """
        return self._durable if self.pending else self._position()

    @property
    def tally(self) -> Tally:
        """Counts that are not durable yet, to be added to; `kept` or another change writes them."""
        return self._changes.tally

    async def kept(self) -> None:
        """Return once everything until now is durable.

        Raises:
            StorageUnavailable: It will not be: the journal is closed.
        """
        if self._stopped:
            raise StorageUnavailable("the gateway's store is closed")
        if not self.pending and self._writing is None:
            return
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._hurry.set()
        self._start()
        await done

    async def close(self) -> None:
        """Write what there is, once, and take no more."""
        if self._stopped:
            return
        self._stopped = True
        self._hurry.set()
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        with suppress(StorageUnavailable):
            while self.pending:
                await self._write_once()
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        for waiting in [*(self._held.waiting if self._held else ()), *self._waiting]:
            if not waiting.done():
                waiting.set_exception(StorageUnavailable("the gateway's store is closed"))
        self._waiting.clear()

    def _start(self) -> None:
        if self._writing is None and not self._stopped:
            self._writing = asyncio.get_running_loop().create_task(self._write())
            self._writing.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        # What came between the last look and the end of the task. Only a loop that closes cancels it.
        if self.pending and not task.cancelled():
            self._start()

    @property
    def pending(self) -> bool:
        """Whether there is anything that the store does not know."""
        changes = self._changes
        return bool(
            self._held or changes.published or changes.rejected or changes.tally or self._released or self._waiting
        )

    async def _write(self) -> None:
        while self.pending and not self._stopped:
            await self._gather(GATHER_SECONDS)
            try:
                await self._write_once()
            except LeaseLost:
                self._stopped = True
                self._refuse_waiting()
                self._on_lost()
            except Exception as error:  # noqa: BLE001 - whatever it is: without this task nothing is ever counted
                if not self._failing:
                    self._failing = True
                    self._log.error("the ledger cannot be written; trying on", problem=repr(error))
                self._hurry.clear()
                await self._gather(_RETRY_SECONDS)

    async def _gather(self, seconds: float) -> None:
        if not self._hurry.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), seconds)

    async def _write_once(self) -> None:
        """Write one group of changes; one that failed is tried again as it was, before any other.

        A store that did not answer may have taken it: by its number it knows one that it has.
        """
        group = self._held = self._held or self._next_group()
        self._hurry.clear()
        await self._store.apply(group.changes)
        self._held = None
        self._failing = False
        self._durable = (group.changes.cluster, group.changes.lows)
        self.recent.difference_update(group.changes.published)
        self._on_released(group.released)
        for done in group.waiting:
            if not done.done():
                done.set_result(None)

    def _next_group(self) -> _Group:
        group = _Group(self._changes, self._released, self._waiting)
        self._changes, self._released, self._waiting = Changes(), [], []
        self._number += 1
        group.changes.number = self._number
        group.changes.released = [key for _, keys in group.released for key in keys]
        group.changes.cluster, group.changes.lows = self._position()
        return group
