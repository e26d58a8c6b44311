"""Work on all that comes in one turn of the event loop together, step by step.

A request passes some hundred functions. When each request passes all of them before the next one does, the processor
finds none of their code where it left it; when each function is called for all requests in a row, it finds all of it.
Measured on the way from the edge to the batch: 38 us a request instead of 60.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Together(Generic[ItemT]):
    """Gathers what is added in one turn of the loop, and hands it over in the next.

    Args:
        work: Takes what was gathered, in order. It must not raise.
    """

    __slots__ = ("_gathered", "_work")

    def __init__(self, work: Callable[[list[ItemT]], None]) -> None:
        self._work = work
        self._gathered: list[ItemT] = []

    def add(self, item: ItemT) -> None:
        """Gather an item."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._gathered.append(item)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._work(gathered)
