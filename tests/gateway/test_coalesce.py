"""Natural batching: alone at once, together when busy, in order, bounded, and never working for nobody."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from gateway.coalesce import SHARED_SECONDS, Coalescer, Company
from gateway.turn import Turn
from mesh.errors import DeadlineExceeded, Overloaded


@dataclass(slots=True, eq=False)
class Item:
    """One item of a batch."""

    name: str
    count: int = 1
    size: int = 10
    deadline: float = field(default_factory=lambda: time.monotonic() + 60)
    flow: str = "web"


@dataclass(slots=True)
class Carrier:
    """Records the batches that it carries and holds each until it is let go."""

    batches: list[list[str]] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)
    cancelled: int = 0
    failure: Exception | None = None
    release_early: bool = False

    async def run(self, items: list[Item], turn: Turn) -> None:
        """Carry one batch."""
        gate = asyncio.Event()
        self.gates.append(gate)
        self.batches.append([item.name for item in items])
        if self.release_early:
            turn.end()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _submit(coalescer: Coalescer[Item], *items: Item) -> list[asyncio.Task[None]]:
    """Submit the first item, and the others once it is under way."""
    calls = [asyncio.create_task(coalescer.submit(items[0]))]
    await _settle()
    calls += [asyncio.create_task(coalescer.submit(item)) for item in items[1:]]
    await _settle()
    return calls


async def test_a_lone_item_leaves_at_once() -> None:
    """An idle system adds no delay: the first item is under way before anything else arrives."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    call = asyncio.create_task(coalescer.submit(Item("a")))
    await _settle()
    assert carrier.batches == [["a"]]
    carrier.gates[0].set()
    await call


async def test_what_is_read_in_one_turn_of_the_loop_leaves_together() -> None:
    """Requests that came in at the same moment on several connections share the first batch, at no delay."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    calls = [asyncio.create_task(coalescer.submit(Item(name))) for name in "abc"]
    await _settle()
    assert carrier.batches == [["a", "b", "c"]]
    carrier.gates[0].set()
    await asyncio.gather(*calls)


async def test_what_arrives_meanwhile_leaves_together_and_in_order() -> None:
    """While one batch is under way the next one gathers; it leaves when the first is done, in order of arrival."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    calls = await _submit(coalescer, *map(Item, "abcd"))
    assert carrier.batches == [["a"]]
    carrier.gates[0].set()
    await _settle()
    assert carrier.batches == [["a"], ["b", "c", "d"]]
    carrier.gates[1].set()
    await asyncio.gather(*calls)


async def test_a_released_batch_lets_the_next_one_go_before_it_is_done() -> None:
    """A batch that was handed on waits for its acknowledgements beside the next batch, not before it."""
    carrier = Carrier(release_early=True)
    coalescer = Coalescer(carrier.run)
    first = asyncio.create_task(coalescer.submit(Item("a")))
    await _settle()
    second = asyncio.create_task(coalescer.submit(Item("b")))
    await _settle()
    assert carrier.batches == [["a"], ["b"]]
    assert not first.done()
    for gate in carrier.gates:
        gate.set()
    await asyncio.gather(first, second)


async def test_batches_are_bounded_in_count_and_bytes() -> None:
    """A batch takes no more events or bytes than its bounds; an item that alone exceeds them travels alone."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run, max_count=3, max_bytes=50)
    items = [Item("a"), Item("b", 2), Item("c", 2), Item("d", 1, 45), Item("e", 1, 45), Item("f", 9, 90)]
    calls = await _submit(coalescer, *items)
    for number in range(6):
        await _settle()
        if number < len(carrier.gates):
            carrier.gates[number].set()
    await asyncio.gather(*calls)
    assert carrier.batches == [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]


async def test_too_much_waiting_is_refused_and_not_taken() -> None:
    """An item that finds the queue full is refused at once, and the others are carried."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run, max_waiting=2)
    calls = await _submit(coalescer, *map(Item, "abc"))
    with pytest.raises(Overloaded):
        await coalescer.submit(Item("d"))
    assert coalescer.queued_count == 2
    for _ in range(2):
        carrier.gates[-1].set()
        await _settle()
    await asyncio.gather(*calls)
    assert carrier.batches == [["a"], ["b", "c"]]


async def test_a_failed_batch_fails_its_callers_and_not_the_next() -> None:
    """Every caller of a batch learns its error; the batch after it goes on."""
    carrier = Carrier(failure=Overloaded("no"))
    coalescer = Coalescer(carrier.run)
    first = asyncio.create_task(coalescer.submit(Item("a")))
    await _settle()
    second = asyncio.create_task(coalescer.submit(Item("b")))
    await _settle()
    carrier.gates[0].set()
    with pytest.raises(Overloaded):
        await first
    carrier.failure = None
    await _settle()
    carrier.gates[1].set()
    await second


async def test_a_caller_that_leaves_while_waiting_takes_its_item_along() -> None:
    """An item whose caller was cancelled before its batch left is never carried."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    first = asyncio.create_task(coalescer.submit(Item("a")))
    await _settle()
    second = asyncio.create_task(coalescer.submit(Item("b")))
    await _settle()
    second.cancel()
    await _settle()
    assert coalescer.queued_count == 0
    carrier.gates[0].set()
    await first
    assert carrier.batches == [["a"]]


async def test_a_batch_is_cancelled_only_when_all_its_callers_left() -> None:
    """One caller of two leaving changes nothing; the last one leaving cancels the batch, and the next batch goes."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    calls = await _submit(coalescer, *map(Item, "abcd"))
    carrier.gates[0].set()
    await _settle()
    assert carrier.batches[1] == ["b", "c", "d"]
    calls[1].cancel()
    calls[2].cancel()
    await _settle()
    assert carrier.cancelled == 0
    after = asyncio.create_task(coalescer.submit(Item("e")))
    calls[3].cancel()
    await _settle()
    assert carrier.cancelled == 1
    assert carrier.batches[2] == ["e"]
    carrier.gates[2].set()
    await after


async def test_drain_waits_for_all_that_was_taken() -> None:
    """Draining returns when nothing is under way or waiting."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    calls = await _submit(coalescer, *map(Item, "ab"))
    draining = asyncio.create_task(coalescer.drain())
    await _settle()
    carrier.gates[0].set()
    await _settle()
    assert not draining.done()
    carrier.gates[1].set()
    await draining
    await asyncio.gather(*calls)


async def test_a_batch_that_releases_the_next_one_need_not_have_ended() -> None:
    """What a batch has still to wait for is waited for beside the next batch; releasing twice does no harm."""
    carrier = Carrier(release_early=True)
    coalescer = Coalescer(carrier.run)
    calls = []
    for name in "abc":
        calls.append(asyncio.create_task(coalescer.submit(Item(name))))
        await _settle()
    assert carrier.batches == [["a"], ["b"], ["c"]]
    for gate in reversed(carrier.gates):
        gate.set()
    await asyncio.gather(*calls)
    assert carrier.batches == [["a"], ["b"], ["c"]]


async def test_a_batch_that_is_cancelled_before_its_first_step_blocks_nobody() -> None:
    """A task that is cancelled before it began runs none of its code; the batches after it go on all the same."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    first = asyncio.create_task(coalescer.submit(Item("a")))
    await asyncio.sleep(0)
    coalescer._start_next()
    (flight,) = coalescer._flights
    assert flight.task is not None
    flight.task.cancel()
    await _settle()
    assert first.cancelled()
    second = asyncio.create_task(coalescer.submit(Item("b")))
    await _settle()
    carrier.gates[-1].set()
    await second
    assert carrier.batches == [["b"]]


async def test_an_item_whose_time_is_over_when_a_batch_could_take_it_is_refused() -> None:
    """What waited until its caller is about to give up is not started: nobody would hear of it."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    first = asyncio.create_task(coalescer.submit(Item("a")))
    await _settle()
    late = asyncio.create_task(coalescer.submit(Item("b", deadline=time.monotonic())))
    await _settle()
    carrier.gates[0].set()
    await first
    with pytest.raises(DeadlineExceeded):
        await late
    assert carrier.batches == [["a"]]


async def test_a_caller_that_leaves_at_the_very_moment_at_which_its_time_is_over_breaks_nothing() -> None:
    """Whether the batch or the caller is first: the item is carried by nobody, and the next batches go."""
    carrier = Carrier()
    coalescer = Coalescer(carrier.run)
    for leaves_first in (True, False):
        call = asyncio.create_task(coalescer.submit(Item("a")))
        await _settle()
        late = asyncio.create_task(coalescer.submit(Item("b", deadline=time.monotonic())))
        await _settle()
        if leaves_first:
            late.cancel()
        coalescer._start_next()
        late.cancel()
        carrier.gates[-1].set()
        await call
        with pytest.raises(asyncio.CancelledError):
            await late
    assert carrier.batches == [["a"], ["a"]]
    assert coalescer.queued_count == 0


async def _batch_sizes(coalescer: Coalescer[Item], carrier: Carrier, items: list[Item]) -> list[int]:
    """Carry a lone item, and the others once it is under way; how many events each of the further batches had."""
    before = len(carrier.batches)
    calls = await _submit(coalescer, *items)
    while not all(call.done() for call in calls):
        carrier.gates[-1].set()
        await _settle()
    return [len(batch) for batch in carrier.batches[before + 1 :]]


async def test_batches_stay_small_while_several_sources_send() -> None:
    """One event of a quiet source is not carried beside a thousand of a busy one; alone, that one fills its batches."""
    carrier, now = Carrier(), 100.0
    coalescer = Coalescer(carrier.run, max_count=20, max_shared_count=5, clock=lambda: now)
    busy = [Item(str(number), deadline=float("inf")) for number in range(21)]
    assert await _batch_sizes(coalescer, carrier, busy) == [20]
    quiet = Item("quiet", flow="quiet", deadline=float("inf"))
    assert await _batch_sizes(coalescer, carrier, [*busy, quiet]) == [20, 1]
    assert await _batch_sizes(coalescer, carrier, busy) == [5, 5, 5, 5]
    now += SHARED_SECONDS
    assert await _batch_sizes(coalescer, carrier, busy) == [20]


async def test_sources_of_other_queues_are_company_too() -> None:
    """Workspaces have queues of their own and share the processes behind: a busy one makes room for a quiet one."""
    now, carrier, company = 100.0, Carrier(), Company()
    first, second = (
        Coalescer(carrier.run, max_count=20, max_shared_count=5, company=company, clock=lambda: now) for _ in range(2)
    )
    busy = [Item(str(number), deadline=float("inf")) for number in range(11)]
    await _batch_sizes(first, carrier, busy[:1])
    await _batch_sizes(second, carrier, busy[:1])
    assert await _batch_sizes(first, carrier, busy) == [5, 5]
