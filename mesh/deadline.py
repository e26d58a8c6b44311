"""The time that is left for the work at hand, and the share of it that the next hop gets.

The server interceptor takes it from the inbound call, the edge from its own budget; Python's gRPC passes nothing on by
itself, so every outgoing call asks `remaining`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from mesh.errors import DeadlineExceeded

# Kept back on each hop, so that our own answer is still on time when the next hop uses all that it was given.
MARGIN_SECONDS: Final = 0.005

_deadline: ContextVar[float | None] = ContextVar("clew_deadline", default=None)


def set_deadline(seconds: float | None) -> None:
    """Set the deadline of the current task, in seconds from now, None for none. For code that owns the whole task."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


def left() -> float | None:
    """Seconds until the deadline, negative once it has passed; None when there is none."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()


def remaining(limit_seconds: float) -> float:
    """Seconds that a call made now may take: the limit, or what is left of the deadline less a small margin.

    Raises:
        DeadlineExceeded: Nothing is left, so that the call must not be made.
    """
    deadline = _deadline.get()
    if deadline is None:
        return limit_seconds
    seconds = deadline - time.monotonic() - MARGIN_SECONDS
    if seconds <= 0:
        raise DeadlineExceeded("no time is left for the next call")
    return min(limit_seconds, seconds)


@contextmanager
def deadline_scope(seconds: float, *, fresh: bool = False) -> Iterator[None]:
    """Give the enclosed work so many seconds, or what an enclosing deadline leaves if that is less.

    Args:
        seconds: The budget.
        fresh: Ignore an enclosing deadline, for work on behalf of many callers whose task was started by one of them.
    """
    deadline = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(deadline if fresh or outer is None else min(deadline, outer))
    try:
        yield
    finally:
        _deadline.reset(token)
