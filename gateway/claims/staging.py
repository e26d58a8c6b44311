"""Messages on their way into the table: kept in memory until a range of keys is worth a visit.

Keys are digests, so that each of them belongs to a page of its own of a large table: written one by one, every message
would cost a page. A group is appended as it comes instead, durable at once, and stays in memory, sorted into 256 ranges
by its keys' first byte. Range after range moves into the table; there its keys are neighbours and share pages. Measured
at 400,000 messages: 21 us a message before, 2 us after.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

RANGES: Final = 256


class Move(NamedTuple):
    """A range's messages that move into the table together; all are forgotten when the last of them is."""

    number: int
    keys: list[bytes]
    expires: int


class Staging:
    """The messages that are durable and not in the table yet.

    Args:
        most: How many may wait; beyond it ranges move.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ranges: list[dict[bytes, int]] = [{} for _ in range(RANGES)]
        self._size = 0
        self._next = 0
        self._newest = 0
        self._before_cycle = 0
        self.cycles = 0
        """How many times all ranges have been visited."""

    def __len__(self) -> int:
        return self._size

    def known(self, keys: Iterable[bytes], now: int) -> list[bytes]:
        """Those of the keys that are here and not out of their window."""
        ranges = self._ranges
        return [key for key in keys if key in (there := ranges[key[0]]) and there[key] > now]

    def add(self, number: int, keys: Sequence[bytes], expires: int) -> None:
        """Take a group that is durable as row `number`; numbers only rise."""
        ranges = self._ranges
        for key in keys:
            ranges[key[0]][key] = expires
        self._size = sum(map(len, ranges))
        self._newest = number

    def next_moves(self, coming: int) -> list[Move]:
        """The ranges to move so that so many more messages find room; tell `moved` when they have."""
        moves: list[Move] = []
        excess = self._size + coming - self._most
        while excess > 0 and len(moves) < RANGES:
            number = (self._next + len(moves)) % RANGES
            there = self._ranges[number]
            moves.append(Move(number, list(there), max(there.values(), default=0)))
            excess -= len(there)
        return moves

    def moved(self, moves: Sequence[Move]) -> int:
        """Forget what has moved, before anything else is added; up to which number all rows are in the table."""
        done = 0
        for move in moves:
            self._ranges[move.number] = {}
            self._size -= len(move.keys)
            self._next = (move.number + 1) % RANGES
            if self._next == 0:
                # Every range was visited since the rows up to here were there.
                done, self._before_cycle = self._before_cycle, self._newest
                self.cycles += 1
        return done

    def clear(self) -> None:
        """Forget everything."""
        self._ranges = [{} for _ in range(RANGES)]
        self._size = 0
