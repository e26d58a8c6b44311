"""The messages of one batch that this gateway has claimed, until it is known what became of them."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from mesh.bus.port import Offsets


class Origin(Protocol):
    """Where events came from: a workspace's source."""

    @property
    def workspace(self) -> str:
        """Name of the workspace."""
        ...

    @property
    def name(self) -> str:
        """Name of the source."""
        ...


class Request(Protocol):
    """What the ledger must know of the request that an event came with."""

    @property
    def source(self) -> Origin:
        """Whose it is."""
        ...

    @property
    def received_ns(self) -> int:
        """When it was received, in Unix nanoseconds."""
        ...

    @property
    def spooled(self) -> bool:
        """Whether the spool counts its events as in flight."""
        ...


class Claim:
    """A batch's keys. One object a batch: nothing here is made for a single event.

    `keys`, `requests` and `outcomes` belong together by index. They hold every event until the records are handed to
    Kafka, then every record: events first, refused events after them.
    """

    __slots__ = ("_done", "events", "filtered", "keys", "lost", "lows", "outcomes", "owed", "requests", "unknown")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.requests: Sequence[Request] = ()
        self.outcomes: list[int] = []
        """What the refused events count as."""
        self.events = 0
        """How many of the keys are of events; those of refused events follow."""
        self.lows: Offsets | None = None
        """Offsets at or above which its records stand; None until they are handed to Kafka."""
        self.lost: set[bytes] = set()
        """Keys of events that are not published: whoever waits for one may claim it."""
        self.filtered: set[bytes] = set()
        """Keys among the lost ones that consent left out: whoever waits for one has the same outcome."""
        self.unknown: list[int] = []
        """Indices of records of which nobody said whether they are stored."""
        self.owed = 0
        """Released keys that the store does not know to be released yet."""
        self._done: asyncio.Future[None] | bool = False

    @property
    def decided(self) -> bool:
        """Whether it is known what became of all."""
        return self._done is True

    def decide(self) -> None:
        """Say that it is; whoever waits goes on."""
        waiting, self._done = self._done, True
        if not isinstance(waiting, bool) and not waiting.done():
            waiting.set_result(None)

    def published(self, key: bytes) -> bool:
        """Whether a message of a decided claim is on the topic."""
        return key not in self.lost

    async def wait(self, seconds: float) -> bool:
        """Wait until it is decided, at most so long; whether it is."""
        if self._done is True:
            return True
        if self._done is False:
            self._done = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._done,), timeout=max(seconds, 0.0))
        return self.decided
