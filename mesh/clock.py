"""The wall clock, as something that is passed in."""

import time
from typing import Protocol

_NANOS_PER_SECOND = 1_000_000_000


class Clock(Protocol):
    """Tells the time of day."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        return time.time_ns()


class FixedClock:
    """A clock that moves only when it is told to."""

    __slots__ = ("_now_ns",)

    def __init__(self, now_ns: int = 1_750_000_000 * _NANOS_PER_SECOND) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._now_ns += round(seconds * _NANOS_PER_SECOND)
