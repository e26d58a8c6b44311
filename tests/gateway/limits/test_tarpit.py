"""Late refusals: told after a while, not all in one moment, and at once where too much is held."""

import asyncio
import time
from functools import partial

from gateway.limits.tarpit import MAX_HELD, MAX_HELD_BYTES, Tarpit
from tests.mesh.rpc import eventually


async def test_it_tells_each_once_and_not_before_half_of_its_time() -> None:
    """None is forgotten, whichever is due first."""
    tarpit, told = Tarpit(0.2), dict[int, float]()
    began = time.monotonic()

    def tell(number: int) -> None:
        assert number not in told
        told[number] = time.monotonic() - began

    for number in range(40):
        tarpit.hold(10, partial(tell, number))
    assert (tarpit.held, told) == (40, {})
    await eventually(lambda: not tarpit.held)
    assert told.keys() == set(range(40))
    assert min(told.values()) >= 0.09


async def test_what_was_refused_in_one_moment_is_not_told_in_one() -> None:
    """Each is due at a moment of its own: after half of the time at least, and one and a half at most."""
    tarpit, now = Tarpit(60), asyncio.get_running_loop().time()
    for _ in range(40):
        tarpit.hold(10, lambda: None)
    due = sorted(held.due - now for held in tarpit._heap)
    assert 30 <= due[0] < 50
    assert 70 < due[-1] <= 91
    assert len({round(seconds) for seconds in due}) > 10


async def test_it_holds_anew_after_it_was_empty() -> None:
    """The last one told is not the end of it."""
    tarpit = Tarpit(0.01)
    for _ in range(2):
        told = asyncio.Event()
        tarpit.hold(1, told.set)
        assert not told.is_set()
        await asyncio.wait_for(told.wait(), 5)


async def test_without_a_time_nothing_is_held() -> None:
    """Zero seconds: told at once."""
    tarpit, told = Tarpit(0), list[int]()
    tarpit.hold(1, lambda: told.append(1))
    assert (told, tarpit.held) == ([1], 0)


async def test_what_is_too_many_is_told_at_once() -> None:
    """Memory is bounded in number: the first ones stay held."""
    tarpit, told = Tarpit(60), list[int]()
    for number in range(MAX_HELD + 2):
        tarpit.hold(0, lambda number=number: told.append(number))  # type: ignore[misc]
    assert told == [MAX_HELD, MAX_HELD + 1]
    assert tarpit.held == MAX_HELD


async def test_what_is_too_large_is_told_at_once() -> None:
    """Memory is bounded in bytes, and there is room again for what is told."""
    tarpit, told = Tarpit(0.02), list[str]()
    tarpit.hold(MAX_HELD_BYTES - 5, lambda: told.append("large"))
    tarpit.hold(6, lambda: told.append("too much"))
    tarpit.hold(5, lambda: told.append("fits"))
    assert told == ["too much"]
    await eventually(lambda: not tarpit.held)
    tarpit.hold(MAX_HELD_BYTES, lambda: told.append("large again"))
    assert sorted(told[1:]) == ["fits", "large"]
