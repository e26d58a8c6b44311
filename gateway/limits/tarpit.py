"""Late refusals: who sends too much learns of it a moment later, and sends less by that alone.

A client of HTTP/1.1 has one request under way on a connection. Told 429 at once, one that does not heed `Retry-After`
asks again at once, and refusing costs the machine more than it should: 115 us each, which the other sources wait for.
Told a tenth of a second later it cannot ask more than ten times a second on a connection. One that heeds it loses
nothing: it was going to wait longer. Held for longer, its connections would be away while its bucket fills, and come
back in a burst. Nothing is held for a gRPC call, as a connection carries any number of these.

Some are held for longer and some for less, or all that were refused in one moment would come back in one.
"""

import asyncio
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, NamedTuple

HOLD_SECONDS: Final = 0.1
MAX_HELD: Final = 4_096
"""Refusals held at a time; those beyond are told at once."""
MAX_HELD_BYTES: Final = 16 << 20
"""Bytes of bodies whose connections wait for a refusal: they count against what all connections may hold."""


class _Held(NamedTuple):
    """A refusal that waits: until when, in which order among equals, for how large a body, and who tells it."""

    due: float
    number: int
    size: int
    tell: Callable[[], None]


class Tarpit:
    """Holds refusals back, bounded in number and in bytes.

    Args:
        seconds: How long, on average: each for half of it at least, and for one and a half at most. 0: not at all.
    """

    def __init__(self, seconds: float = HOLD_SECONDS) -> None:
        self._seconds = seconds
        self._heap: list[_Held] = []
        self._bytes = 0
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> int:
        """How many refusals are held."""
        return len(self._heap)

    def hold(self, size: int, tell: Callable[[], None]) -> None:
        """Call `tell` later, or now where too much is held. It must not raise; `size` is that of the body in bytes."""
        if not self._seconds or len(self._heap) >= MAX_HELD or self._bytes + size > MAX_HELD_BYTES:
            tell()
            return
        due = asyncio.get_running_loop().time() + self._seconds * (0.5 + random.random())  # noqa: S311 - spread, not secret
        self._number += 1
        heappush(self._heap, _Held(due, self._number, size, tell))
        self._bytes += size
        if self._heap[0].number == self._number:
            self._wait()

    def _tell_due(self) -> None:
        now = asyncio.get_running_loop().time()
        due: list[_Held] = []
        while self._heap and self._heap[0].due <= now:
            due.append(heappop(self._heap))
        self._bytes -= sum(held.size for held in due)
        self._wait()
        for held in due:
            held.tell()

    def _wait(self) -> None:
        """Wait for the one that is due first."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._heap[0].due, self._tell_due) if self._heap else None
