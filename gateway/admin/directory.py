"""The sources that hold at this gateway: those of the sources file, and those of the store, kept up to date.

A change made here holds when the call returns: the table that requests look into is replaced before that. Changes made
by other gateways are told by the store; should that be missed, the next look at the store's revision finds them,
`LOOK_SECONDS` later at most. While the store cannot be reached the sources stay as they were: events go on being taken,
and nothing can be changed here.

Where the file and the store both have a source of some name, the file's settings hold for all of its keys.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from gateway.admin.records import Entry, SourceRecord
from gateway.admin.rules import Rule
from gateway.admin.store.port import Request, Snapshot, SourceStore
from gateway.admin.table import Place, SourceTable
from gateway.errors import SourceExists, SourceNotFound, SourceReadOnly
from gateway.sources import Source, Sources
from mesh.clock import Clock
from mesh.errors import ClewError

LOOK_SECONDS: Final = 5.0
"""How often the revision of a shared store is asked for: the bound on how long a lost notification goes unnoticed."""
USES_SECONDS: Final = 60.0
"""How often the uses of keys are written down: at most one write in that time, for all keys together."""
# The expiry of keys follows the wall clock, which may be set: it is looked at this often at least.
_LONGEST_SLEEP_SECONDS: Final = 30.0
_NANOS: Final = 1_000_000_000
_log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A source as it is shown; one of the sources file is made to look as if it were stored."""

    record: SourceRecord
    from_file: bool


class Directory:
    """What the administration reads and changes, and what `Sources` is filled from.

    Args:
        sources: The table that requests look into; what it holds at first stands in the sources file.
        store: Where everything else is kept.
        clock: Tells which keys hold, and dates changes.
    """

    def __init__(self, sources: Sources, store: SourceStore, clock: Clock) -> None:
        self.sources = sources
        """The table that requests look into."""
        self._store = store
        self._clock = clock
        self._table = SourceTable(sources.by_hash)
        self._revision = -1
        # One at a time reads or changes the store, so that no answer of it arrives behind a later one.
        self._turn = asyncio.Lock()
        self._stale = asyncio.Event()
        self._unnoted: dict[str, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._expiry: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Read the store and keep up with it until `close`.

        Raises:
            StorageUnavailable: The store cannot be read.
        """
        await self.refresh()
        self._run(self._note_uses_now_and_then())
        if self._store.shared:
            self._run(self._store.watch(self._stale.set))
            self._run(self._keep_up())

    async def close(self) -> None:
        """Write down the uses of keys and close the store."""
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(ClewError):
            await self.note_uses()
        await self._store.close()

    def listed(self) -> list[Listed]:
        """All sources, by workspace and name."""
        return [Listed(record, self._table.in_file(place)) for place, record in self._table.shown()]

    def find(self, place: Place) -> Listed:
        """One source.

        Raises:
            SourceNotFound: There is none of that name.
        """
        record = self._table.get(place)
        if record is None:
            raise SourceNotFound("the workspace has no source of that name")
        return Listed(record, self._table.in_file(place))

    def source(self, workspace: str, name: str) -> Source | None:
        """One source as requests look it up, without its key; None when there is none, or it is disabled."""
        return self._table.source((workspace, name))

    async def history(self, place: Place, before: int | None, limit: int) -> list[Entry]:
        """A source's changes, newest first; see `SourceStore.history`."""
        return await self._store.history(*place, before, limit)

    async def last_uses(self) -> Mapping[str, int]:
        """When each key was used last, by its hash, Unix nanoseconds; as far as it is known here."""
        uses = dict(await self._store.last_uses())
        for recent in (self._unnoted, self.sources.uses):
            for digest, used_ns in recent.items():
                uses[digest] = max(used_ns, uses.get(digest, 0))
        return uses

    async def change(self, place: Place, actor: str, rule: Rule) -> SourceRecord | None:
        """Change a source by a rule; on return the change is durable, and in force here. None: it was deleted.

        Raises:
            SourceReadOnly: It stands in the sources file.
            ClewError: What the rule, or the store, raises; nothing was changed.
        """
        if self._table.in_file(place):
            raise SourceReadOnly("the source stands in the sources file of the gateway; change it there")
        request = Request(*place, actor, self._clock.now_ns(), rule)
        # A caller that goes away must not keep a change that stands from being in force.
        return await asyncio.shield(self._run(self._change(request)))

    async def create(self, place: Place, actor: str, rule: Rule) -> SourceRecord | None:
        """As `change`, for a source that is to be made.

        Raises:
            SourceExists: The sources file has one of that name.
        """
        if self._table.in_file(place):
            raise SourceExists("the sources file has a source of that name; choose another")
        return await self.change(place, actor, rule)

    async def refresh(self) -> None:
        """Read the store anew, if it has changed since.

        Raises:
            StorageUnavailable: It cannot be read.
        """
        async with self._turn:
            revision = await self._store.revision()
            if revision == self._revision:
                return
            # A store that has gone back was put back from a copy: nothing that was known of it counts.
            since = self._revision if 0 < self._revision < revision else 0
            snapshot = await self._store.load(since)
            self._take(snapshot, anew=since == 0)
            self._revision = snapshot.revision

    async def note_uses(self) -> None:
        """Write down when keys were used.

        Raises:
            StorageUnavailable: It cannot be written; it is tried again with the next ones.
        """
        self._unnoted |= self.sources.take_uses()
        if self._unnoted:
            noting = dict(self._unnoted)
            await self._store.record_uses(noting)
            self._unnoted = {digest: at for digest, at in self._unnoted.items() if noting.get(digest) != at}

    async def _change(self, request: Request) -> SourceRecord | None:
        async with self._turn:
            written = await self._store.change(request)
            if written.record is None:
                self._table.remove((request.workspace, request.source))
            else:
                self._table.put(written.record, self._clock.now_ns())
            if not self._store.shared:
                self._revision = written.revision
            self._publish()
            return written.record

    def _take(self, snapshot: Snapshot, *, anew: bool) -> None:
        if anew:
            self._table.clear()
        for place in snapshot.gone:
            self._table.remove(place)
        now_ns = self._clock.now_ns()
        for record in snapshot.records:
            self._table.put(record, now_ns)
        self._publish()

    def _publish(self) -> None:
        """Put in force what holds now, and come back when the next key expires."""
        now_ns = self._clock.now_ns()
        next_end_ns = self._table.end_keys(now_ns)
        self.sources.replace(self._table.by_hash)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if next_end_ns is not None:
            seconds = min((next_end_ns - now_ns) / _NANOS, _LONGEST_SLEEP_SECONDS)
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._publish)

    async def _keep_up(self) -> None:
        while True:
            # Not `wait_for`, which before Python 3.12 may lose a cancellation to what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._stale.wait()
            self._stale.clear()
            try:
                await self.refresh()
            except ClewError as error:
                _log.warning("sources may be out of date", problem=str(error))
            except Exception:  # noqa: BLE001 - such as a record that a newer gateway wrote
                # Giving up would leave revoked keys in force for as long as the process runs.
                _log.exception("sources may be out of date")

    async def _note_uses_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(USES_SECONDS)
            try:
                await self.note_uses()
            except ClewError as error:
                _log.warning("the use of write keys was not noted", problem=str(error))

    def _run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Told to whoever waits; when nobody does any more, it is no news.
            task.exception()
