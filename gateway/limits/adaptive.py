"""How many events the pipeline may hold, found out by how long it takes with them.

Additive increase, multiplicative decrease on latency, as in Netflix's `concurrency-limits` (AIMDLimit) and, for why it
settles, Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance" (1989). The signal
is absolute, a time that an answer should keep, and not a gradient to the fastest answer seen: a pipeline that joins
requests into batches answers slower the more it carries and carries more for it, which a gradient would punish.
See decision 9.
"""

from dataclasses import dataclass
from typing import Final

_STEPS: Final = 20
_LEAST_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the limit may be, in events by weight (`share.weight`), and what it aims at, in nanoseconds."""

    least: int = 1_000
    """Never less: as many as travel in one batch."""
    most: int = 16_000
    """Never more, whatever the latency. This bounds memory, to 64 MiB of bodies, and is reached before the bounds of
    any one queue behind it."""
    target_ns: int = 1_000_000_000
    """How long an event may be in the pipeline on average. Clients give up after 10 s."""
    window_ns: int = 100_000_000
    """The least time between two changes."""


class AdaptiveLimit:
    """The number of events that may be in the pipeline now.

    It grows by a step while somebody is refused for it and answers take less than half of the time that they may. It
    shrinks when they take longer, by as much as they are late: by Little's law that is what fits (at most to a quarter
    at once). It shrinks on answers to requests only that came in after the last change, for the others tell of a limit
    that no longer holds; but it does not grow on the first few of these, while answers to older ones are still late.
    """

    __slots__ = (
        "_bounds", "_changed_ns", "_fresh", "_fresh_ns", "_missed", "_stale", "_stale_ns", "_window_end_ns", "value"
    )  # fmt: skip

    def __init__(self, bounds: Bounds, now_ns: int) -> None:
        self._bounds = bounds
        self.value = max(bounds.least, bounds.most // 2)
        """Events that may be in the pipeline."""
        self._changed_ns = now_ns
        self._begin(now_ns)

    @property
    def most(self) -> int:
        """The highest that the value can be."""
        return self._bounds.most

    def miss(self) -> None:
        """Note that the limit kept somebody out."""
        self._missed = True

    def observe(self, weight: int, entered_ns: int, now_ns: int, answered: bool) -> None:
        """Note how long a request was in the pipeline.

        What failed or was given up tells of the load only if it took longer than it should have.
        """
        took_ns = now_ns - entered_ns
        if not answered and took_ns <= self._bounds.target_ns:
            return
        if entered_ns >= self._changed_ns:
            self._fresh += weight
            self._fresh_ns += took_ns * weight
        else:
            self._stale += weight
            self._stale_ns += took_ns * weight
        if now_ns >= self._window_end_ns:
            self._decide(now_ns)

    def _decide(self, now_ns: int) -> None:
        value = self._next_value()
        if value != self.value:
            self.value = value
            self._changed_ns = now_ns
        self._begin(now_ns)

    def _next_value(self) -> int:
        bounds = self._bounds
        fresh_ns = self._fresh_ns // max(1, self._fresh)
        if fresh_ns > bounds.target_ns:
            return max(bounds.least, self.value * bounds.target_ns // fresh_ns, self.value // _LEAST_KEPT)
        if self._missed and self._mean_ns() < bounds.target_ns // 2:
            return min(bounds.most, self.value + bounds.most // _STEPS)
        return self.value

    def _mean_ns(self) -> int:
        """Of all answers in the window, those to older requests among them."""
        return (self._fresh_ns + self._stale_ns) // max(1, self._fresh + self._stale)

    def _begin(self, now_ns: int) -> None:
        """Begin a window: what is seen in it, by weight, and the time that it took, by weight."""
        self._window_end_ns = now_ns + self._bounds.window_ns
        self._fresh = self._fresh_ns = self._stale = self._stale_ns = 0
        self._missed = False
