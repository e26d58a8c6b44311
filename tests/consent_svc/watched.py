"""The real store, with a witness: which calls reach it, and a way to hold or break one of them."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

from consent_svc.ledger import Entry, Statement
from consent_svc.store import ConsentStore

T = TypeVar("T")

Hook = Callable[[], Awaitable[None]]


class WatchedStore:
    """Passes every call on to a store and notes its name; `before` and `after` hold hooks by the name of the call."""

    def __init__(self, inner: ConsentStore) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}

    async def append(self, statement: Statement, now_ns: int) -> Entry:
        """See `ConsentStore`."""
        await self._enter("append")
        return await self._leave("append", await self.inner.append(statement, now_ns))

    async def entries_of(self, workspace: str, subjects: Collection[str]) -> Mapping[str, list[Entry]]:
        """See `ConsentStore`."""
        await self._enter("entries_of")
        return await self._leave("entries_of", await self.inner.entries_of(workspace, subjects))

    async def history(self, workspace: str, subject: str, before_epoch: int | None, limit: int) -> list[Entry]:
        """See `ConsentStore`."""
        await self._enter("history")
        return await self._leave("history", await self.inner.history(workspace, subject, before_epoch, limit))

    async def last_epochs(self) -> Mapping[str, int]:
        """See `ConsentStore`."""
        await self._enter("last_epochs")
        return await self._leave("last_epochs", await self.inner.last_epochs())

    async def close(self) -> None:
        """See `ConsentStore`."""
        await self.inner.close()

    async def _enter(self, call: str) -> None:
        self.calls.append(call)
        if hook := self.before.get(call):
            await hook()

    async def _leave(self, call: str, result: T) -> T:
        if hook := self.after.get(call):
            await hook()
        return result
