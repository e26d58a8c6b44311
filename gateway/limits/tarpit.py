"""Late refusals: who sends too much learns of it a moment later, and sends less by that alone.

A client of HTTP/1.1 has one request under way on a connection. Told 429 at once, one that does not heed `Retry-After`
asks again at once, and refusing costs the machine more than it should: 115 us each, which the other sources wait for.
Told half a second later it cannot ask more than twice a second on a connection. One that heeds it loses nothing: it was
going to wait longer. Nothing is held for a gRPC call, as a connection carries any number of these.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

HOLD_SECONDS: Final = 0.5
MAX_HELD: Final = 4_096
"""Refusals held at a time; those beyond are told at once."""
MAX_HELD_BYTES: Final = 16 << 20
"""Bytes of bodies whose connections wait for a refusal: they count against what all connections may hold."""


class Tarpit:
    """Holds refusals back, each for the same time, bounded in number and in bytes.

    Args:
        seconds: How long; 0: not at all.
    """

    def __init__(self, seconds: float = HOLD_SECONDS) -> None:
        self._seconds = seconds
        self._held: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> int:
        """How many refusals are held."""
        return len(self._held)

    def hold(self, size: int, tell: Callable[[], None]) -> None:
        """Call `tell` later, or now where too much is held. It must not raise; `size` is that of the body in bytes."""
        if not self._seconds or len(self._held) >= MAX_HELD or self._bytes + size > MAX_HELD_BYTES:
            tell()
            return
        loop = asyncio.get_running_loop()
        self._held.append((loop.time() + self._seconds, size, tell))
        self._bytes += size
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._tell_due)

    def _tell_due(self) -> None:
        loop = asyncio.get_running_loop()
        held, now = self._held, loop.time()
        while held and held[0][0] <= now:
            _, size, tell = held.popleft()
            self._bytes -= size
            tell()
        self._timer = loop.call_at(held[0][0], self._tell_due) if held else None
