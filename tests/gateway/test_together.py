"""What comes in one turn of the loop is handed over together, once, in order; nothing waits for more to come."""

import asyncio

from gateway.together import Together


async def test_what_is_added_in_one_turn_is_handed_over_in_the_next() -> None:
    """In order, and nothing of it twice."""
    seen: list[list[int]] = []
    together = Together[int](seen.append)
    for number in range(3):
        together.add(number)
    assert seen == []
    await asyncio.sleep(0)
    assert seen == [[0, 1, 2]]
    together.add(3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [[0, 1, 2], [3]]


async def test_what_is_added_by_the_work_itself_has_its_turn_later() -> None:
    """So that no item can keep the loop for itself by adding another one."""
    seen: list[list[int]] = []

    def work(numbers: list[int]) -> None:
        seen.append(numbers)
        if numbers[0] < 2:
            together.add(numbers[0] + 1)

    together = Together[int](work)
    together.add(0)
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert len(seen) == turn
    assert seen == [[0], [1], [2]]
