"""Turns: the next batch may begin early, and never goes past the one before it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.turn import Turn


class Line:
    """Batches that stand in line, and what each of them has done."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.begin()

    def begin(self) -> None:
        """The next batch begins."""
        self.turns.append(Turn(self.turns[-1] if self.turns else None, self.begin))


async def _passes(turn: Turn) -> bool:
    """Whether a batch's turn has come; asked without taking its place."""
    waiting = asyncio.create_task(turn.comes())
    for _ in range(3):
        await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    return done


async def test_a_batch_that_shares_its_turn_lets_the_next_one_begin_and_not_pass() -> None:
    """The next one begins at once, and waits where it would overtake until the turn is over."""
    line = Line()
    await line.turns[0].share()
    assert len(line.turns) == 2
    assert not await _passes(line.turns[1])
    line.turns[0].end()
    assert await _passes(line.turns[1])


async def test_a_turn_that_is_shared_and_ended_begins_one_batch() -> None:
    """However often and in whatever way it is passed on, one batch follows."""
    line = Line()
    first = line.turns[0]
    await first.share()
    await first.share()
    first.end()
    first.end()
    assert len(line.turns) == 2
    assert await _passes(line.turns[1])


async def test_a_batch_that_is_cancelled_while_it_waits_ends_no_turn_but_its_own() -> None:
    """Those behind it are still behind the one that was before it."""
    line = Line()
    await line.turns[0].share()
    waiting = asyncio.create_task(line.turns[1].comes())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    line.turns[1].end()
    assert not line.turns[0].over.done()
    assert not await _passes(line.turns[2])


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["share", "end"])), max_size=60))
async def test_no_turn_is_over_before_the_one_before_it(steps: list[tuple[int, str]]) -> None:
    """Whoever shares or ends in whatever order, turns are over in order, and all are once all have ended."""
    line = Line()
    for number, step in steps:
        turn = line.turns[number % len(line.turns)]
        if step == "share":
            await turn.share()
        else:
            turn.end()
            await asyncio.sleep(0)
        over = [each.over.done() for each in line.turns]
        assert over == sorted(over, reverse=True)
    ended = list(line.turns)
    for turn in reversed(ended):
        turn.end()
    await asyncio.sleep(0)
    for _ in ended:
        await asyncio.sleep(0)
    assert all(turn.over.done() for turn in ended)
