"""Whose turn it is at Kafka: batches overlap, and none overtakes the one before it."""

import asyncio
from collections.abc import Callable
from typing import Final

_TURNS_TO_FIRST_CALL: Final = 2
"""Turns of the loop from a batch's start until its first message is on its way: its first step, and the writer's."""


class Turn:
    """A batch's place behind the one before it.

    Args:
        before: That of the batch before; None: there is none.
        begin_next: Starts the next batch.
    """

    __slots__ = ("_before", "_begin_next", "over")

    def __init__(self, before: "Turn | None", begin_next: Callable[[], None]) -> None:
        self._before = before
        self._begin_next: Callable[[], None] | None = begin_next
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Resolves once the batch can be overtaken no more."""

    async def comes(self) -> None:
        """Wait until the batch before can be overtaken no more."""
        before = self._waits_for()
        if before is not None:
            # Whoever is cancelled here must not end a turn that others wait for.
            await asyncio.shield(before.over)

    async def share(self) -> None:
        """Let the next batch begin, up to where it waits for its turn; returns once its first call is on its way."""
        self._let_next_begin()
        for _ in range(_TURNS_TO_FIRST_CALL):
            await asyncio.sleep(0)

    def end(self) -> None:
        """This batch can be overtaken no more: let the next one begin and go on. Once is enough."""
        self._let_next_begin()
        if (before := self._waits_for()) is not None:
            # It has failed before its turn came: those behind it are still behind the one before.
            before.over.add_done_callback(lambda _: self.end())
        elif not self.over.done():
            self.over.set_result(None)

    def _waits_for(self) -> "Turn | None":
        """The batch before, unless its turn is over: then it is forgotten, or the chain would never end."""
        if self._before is not None and self._before.over.done():
            self._before = None
        return self._before

    def _let_next_begin(self) -> None:
        begin_next, self._begin_next = self._begin_next, None
        if begin_next is not None:
            begin_next()
