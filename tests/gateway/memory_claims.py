"""Claims kept in memory, for tests that look at something else; not durable, so no test of claims uses it."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.claims.port import Changes, Found, Held, LedgerQuery, Unfinished
from gateway.ledger.tally import Tally
from mesh.bus.port import Offsets


class MemoryClaims:
    """A `ClaimStore` that remembers what was published for as long as it lives."""

    owner = "test"
    keeps_claims = False

    def __init__(self) -> None:
        self._published: set[bytes] = set()

    async def claim(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """What was published is held."""
        return {key: Held.PUBLISHED for key in keys if key in self._published}

    async def look(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """As `claim`."""
        return await self.claim(keys)

    async def apply(self, changes: Changes) -> None:
        """Remember what was published."""
        self._published.update(changes.published)

    async def tidy(self) -> None:
        """Nothing grows old."""

    def may_publish(self) -> bool:
        """There is no lease."""
        return True

    async def renew(self, lows: Offsets, cluster: str) -> None:
        """There is no lease."""

    async def unfinished(self) -> Sequence[Unfinished]:
        """Nobody came before."""
        return []

    async def forget(self, cluster: str, owner: str) -> None:  # noqa: ARG002 - the port's signature
        """Forget all messages."""
        self._published.clear()

    async def recover(self, owner: str, found: Iterable[Found]) -> int:  # noqa: ARG002 - the port's signature
        """Nothing is recovered."""
        return 0

    async def settle(self, owner: str) -> None:
        """Nothing is to be settled."""

    async def ledger(self, query: LedgerQuery) -> Tally:  # noqa: ARG002 - the port's signature
        """Nothing is counted."""
        return {}

    async def close(self, *, settled: bool) -> None:
        """Nothing is open."""
