"""What the gateway needs from whatever remembers its claims.

Two adapters: SQLite for one gateway (`gateway/claims/sqlite.py`), PostgreSQL for several
(`gateway/claims/postgres.py`). Both fail closed: what cannot be claimed is not published.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Protocol

from gateway.ledger.tally import Cell, Tally
from mesh.bus.port import Offsets

ORIGIN_HEADER: Final = "clew-gateway"
"""Header of every record: whose it is, so that a recovery counts nobody else's."""


class Held(Enum):
    """Why a key is not the caller's."""

    PUBLISHED = 1
    """The message is on the topic, published within the window."""
    ELSEWHERE = 2
    """Another gateway has claimed it and has not said yet what became of it."""


@dataclass(slots=True)
class Changes:
    """What a gateway has learnt, to be made durable together.

    Attributes:
        published: Keys that are on the events topic.
        rejected: Keys of records on the failed topic.
        released: Keys that were claimed and are on no topic.
        tally: Counts to add to the ledger.
        lows: Offsets below which every record of this gateway is accounted for, these changes included.
        cluster: The Kafka cluster that the offsets are of.
        number: Rises from group to group of one run of a gateway; the same group is made durable once.

    """

    published: list[bytes] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)
    tally: Tally = field(default_factory=dict)
    lows: Offsets = field(default_factory=dict)
    cluster: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A gateway, as its records name it, that ended without saying what became of all it had claimed.

    Every record of its that is not accounted for stands at or above `lows` on the cluster. `lows` is None when it never
    published anything.
    """

    owner: str
    cluster: str
    lows: Offsets | None


class Found(NamedTuple):
    """A record on a topic: its key, and where the ledger counts it."""

    key: bytes
    cell: Cell


class LedgerQuery(NamedTuple):
    """Which counts; minutes since the Unix epoch, the end is not included; an empty source means all."""

    workspace: str
    source: str
    first_minute: int
    end_minute: int
    per_minute: bool


class ClaimStore(Protocol):
    """Remembers messages for a window. Every method raises `StorageUnavailable` when the store cannot answer."""

    owner: str
    """How this gateway's records name it; without the bytes of it a record is somebody else's."""
    keeps_claims: bool
    """Whether claims themselves are stored, so that a released one must be taken out again."""

    async def claim(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Claim keys for this gateway; the result names those that it does not get, all others are its own.

        A key that is its own already stays so.
        """
        ...

    async def look(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """As `claim`, and nothing is claimed: whoever may give up before it claims asks so."""
        ...

    async def apply(self, changes: Changes) -> None:
        """Make changes durable, all or none.

        After a failure it is called with the same changes until it succeeds.

        Raises:
            LeaseLost: The others hold this gateway for dead and decide about its claims.
        """
        ...

    def may_publish(self) -> bool:
        """Whether nobody can hold this gateway for dead at this moment."""
        ...

    async def renew(self, lows: Offsets, cluster: str) -> None:
        """Say that this gateway lives; called about once a second.

        Raises:
            LeaseLost: See `apply`.
        """
        ...

    async def tidy(self) -> None:
        """Forget some of what is out of the window; called about once a second, off the request path."""
        ...

    async def unfinished(self) -> Sequence[Unfinished]:
        """The gateways that have ended and are not settled yet; this one's own predecessor among them.

        From now on none of them can claim or settle anything.
        """
        ...

    async def forget(self, cluster: str, owner: str) -> None:
        """Forget all messages, but no count: the topics that an ended gateway wrote to are gone.

        What is there instead is on `cluster`, where others may have gone on writing: a shared store forgets once for
        another cluster, and for topics made anew on the same one until the ended gateway is settled. What was stopped
        in the middle is done by the next call.
        """
        ...

    async def recover(self, owner: str, found: Iterable[Found]) -> int:
        """Account for records of an ended gateway, each once, however often it is told; how many were news."""
        ...

    async def settle(self, owner: str) -> None:
        """All records of an ended gateway are accounted for: release what it had claimed otherwise."""
        ...

    async def ledger(self, query: LedgerQuery) -> Tally:
        """The counts that are durable; cells without a minute have minute 0."""
        ...

    async def close(self, *, settled: bool) -> None:
        """Let go of the store; `settled` when all that this gateway claimed is settled, and nothing is to be recovered.

        May be called twice.
        """
        ...
