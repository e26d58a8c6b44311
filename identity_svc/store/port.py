"""What the service needs of a store. `tests/contract/identity_store.py` says the same as tests, for every adapter."""

from collections.abc import Sequence
from typing import Protocol

from identity_svc.graph import Fact, IdentifierKey, Profile, Query, Resolution


class IdentityStore(Protocol):
    """Keeps the identity graph, durably, as an append-only history of facts and the state that follows from it."""

    async def resolve(self, workspace: str, queries: Sequence[Query]) -> list[Resolution]:
        """Apply queries in order by the rules of `identity_svc.merge`; result i answers query i.

        All that the results rest on is durable before it returns, also what a concurrent call is only just recording.
        Concurrent calls that name the same identifiers agree.

        Raises:
            StorageUnavailable: nothing that these queries made known is relied on; the same call may be made again.
        """
        ...

    async def find_profile(self, workspace: str, key: str | IdentifierKey) -> Profile | None:
        """Return the profile with this id (or the one that it was merged into), or with this identifier; or None.

        Raises:
            StorageUnavailable: the store cannot be read.
        """
        ...

    async def history(self, workspace: str, profile_id: str) -> Sequence[Fact]:
        """Return the facts that made a profile and those merged into it what they are, oldest first.

        Raises:
            StorageUnavailable: the store cannot be read.
        """
        ...

    async def rebuild(self) -> int:
        """Replace the current state by the fold of the history; returns how many rows were wrong, 0 when all is well.

        Raises:
            StorageUnavailable: the store cannot be written; the state is as it was.
        """
        ...

    async def close(self) -> None:
        """Write what is pending and close. Idempotent."""
        ...
