"""The embedded store: a SQLite file that this process owns, decided in memory and written in groups."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from identity_svc.graph import Fact, IdentifierKey, Profile, Query, Resolution
from identity_svc.merge import Resolver
from identity_svc.store import rows
from identity_svc.store.known import KnownGraph
from mesh.clock import Clock, SystemClock
from mesh.errors import StorageUnavailable
from mesh.ids import new_id
from mesh.sqlite import Database

DEFAULT_CACHE_SIZE = 200_000


class SqliteIdentityStore:
    """`IdentityStore` on SQLite.

    A batch whose identifiers are all known is answered from memory: no write, no thread, no await. Anything new is one
    grouped, durable write.
    """

    def __init__(self, database: Database, graph: KnownGraph) -> None:
        self._database = database
        self._graph = graph

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        cache_size: int = DEFAULT_CACHE_SIZE,
        clock: Clock | None = None,
        make_id: Callable[[], str] = new_id,
    ) -> Self:
        """Open or create the file; blocks.

        Args:
            path: the file; None for a temporary one.
            cache_size: identifiers, and profiles, that are kept in memory at most; about 0.5 KB each.
            clock: what facts are dated by; the system's by default.
            make_id: makes profile ids.

        Raises:
            StorageUnavailable: the file cannot be opened, or another process owns it.
            MigrationError: its schema cannot be brought up to date.
        """
        database = Database.open(path, "identity_svc.store.migrations")
        return cls(database, KnownGraph(database, cache_size, clock or SystemClock(), make_id))

    async def resolve(self, workspace: str, queries: Sequence[Query]) -> list[Resolution]:
        """Apply queries in order; see `IdentityStore.resolve`."""
        # No await between here and the end of the planning: that is what makes concurrent calls agree.
        graph = self._graph
        graph.begin(workspace, queries)
        resolve = Resolver(graph, workspace).resolve
        try:
            results = [resolve(query) for query in queries]
        finally:
            # Also when reading failed half-way: what was decided until then is decided for others too.
            self._write_next()
        if graph.touched is not None:
            await graph.touched.written()
        return results

    async def find_profile(self, workspace: str, key: str | IdentifierKey) -> Profile | None:
        """Return a profile; see `IdentityStore.find_profile`."""
        return rows.load_profile(self._database, workspace, key)

    async def history(self, workspace: str, profile_id: str) -> Sequence[Fact]:
        """Return a profile's history; see `IdentityStore.history`."""
        return rows.load_history(self._database, workspace, profile_id)

    async def rebuild(self) -> int:
        """Replace the current state by the fold of the history; see `IdentityStore.rebuild`."""
        differences = await self._database.write(rows.rebuild)
        if differences:
            self._graph.forget()
        return differences

    async def close(self) -> None:
        """Write what is pending and close. Idempotent."""
        while (layer := self._graph.newest()) is not None:
            try:
                await layer.written()
            except StorageUnavailable:
                # Those who wait for it are told; closing goes on.
                continue
        await self._database.close()

    def _write_next(self) -> None:
        layer = self._graph.start_writing()
        if layer is None:
            return
        try:
            write = self._database.submit(partial(rows.append_facts, facts=layer.facts))
        except StorageUnavailable as error:
            self._graph.end_writing(error)
        else:
            write.add_done_callback(self._written)

    def _written(self, write: asyncio.Future[None]) -> None:
        self._graph.end_writing(write.exception())
        self._write_next()
