"""What the service needs from whatever keeps its ledger."""

from collections.abc import Collection, Mapping
from typing import Protocol

from consent_svc.ledger import Entry, Statement


class ConsentStore(Protocol):
    """An append-only ledger of consent. Every method raises `StorageUnavailable` when the store cannot answer."""

    async def append(self, statement: Statement, now_ns: int) -> Entry:
        """Add an entry at the end of its workspace and return it once it is durable.

        Entries of one workspace are numbered 1, 2, 3, ... in the order in which they are committed.
        """
        ...

    async def entries_of(self, workspace: str, subjects: Collection[str]) -> Mapping[str, list[Entry]]:
        """Return all entries of some subjects; a subject without any is missing from the result."""
        ...

    async def history(self, workspace: str, subject: str, before_epoch: int | None, limit: int) -> list[Entry]:
        """Return up to `limit` entries of a subject, newest first, from below an epoch when one is given."""
        ...

    async def last_epochs(self) -> Mapping[str, int]:
        """Return the epoch of the last entry of each workspace that has one."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the ledger. Idempotent."""
        ...
