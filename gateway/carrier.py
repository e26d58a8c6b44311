"""How a request is handed on without a task of its own: it is begun, and its end is told by a call."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from gateway.batch import Submission

ResultT = TypeVar("ResultT")
Done = Callable[[BaseException | None], None]
"""Called once, on the loop's thread, with what went wrong or None; it must not raise."""
Abandon = Callable[[], object]
"""Says that nobody waits any more: `Done` is not called. Without effect once it was."""
Begin = Callable[[Done], Abandon]


class Carrier(Protocol):
    """Carries admitted requests."""

    def begin(self, submission: Submission, done: Done) -> Abandon:
        """Carry one; when it is done without an error, it has an outcome for each event.

        With one it was not acknowledged, and nothing is promised about any of its events.
        """
        ...

    async def submit(self, submission: Submission) -> None:
        """Carry one and wait for its end.

        Raises:
            ClewError: It was not acknowledged; nothing is promised about any of its events.
        """
        ...


def settle(future: asyncio.Future[ResultT], result: ResultT) -> None:
    """Set a future's result, unless its caller was cancelled in this very turn of the loop."""
    if not future.done():
        future.set_result(result)


async def carried(begin: Begin) -> None:
    """Begin and wait for the end; a caller that is cancelled abandons what it has begun."""
    end: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    abandon = begin(partial(settle, end))
    try:
        error = await end
    except asyncio.CancelledError:
        abandon()
        raise
    if error is not None:
        try:
            raise error
        finally:
            # A failure's traceback holds this frame: it must not lead back to the failure, or both stay in memory.
            del error, end
