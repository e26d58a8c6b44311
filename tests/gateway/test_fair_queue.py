"""Sources wait in one queue and none can fill it for the others."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fair_queue import QUANTUM, FairQueue


@dataclass(slots=True, eq=False)
class Entry:
    """What waits."""

    flow: str
    count: int = 1
    size: int = 100
    number: int = 0


MUCH = 1 << 30


def filled(*entries: Entry) -> FairQueue[Entry]:
    """A queue with entries, in this order."""
    queue: FairQueue[Entry] = FairQueue()
    for entry in entries:
        queue.push(entry)
    return queue


def batches(queue: FairQueue[Entry], max_count: int) -> list[list[Entry]]:
    """All batches until nothing waits."""
    found = []
    while queue:
        found.append(queue.take(max_count, MUCH))
    return found


def test_what_fits_into_one_batch_leaves_in_order_of_arrival() -> None:
    """Where there is room for all, sources do not take turns: what came first is first."""
    entries = [Entry(flow) for flow in "abacbcab"]
    assert filled(*entries).take(100, MUCH) == entries


def test_a_quiet_source_does_not_wait_behind_a_noisy_one() -> None:
    """One event that comes after five thousand of another source leaves in the next batch."""
    quiet = Entry("quiet")
    queue = filled(*[Entry("noisy") for _ in range(5000)], quiet)
    first = queue.take(250, MUCH)
    assert len(first) == 250
    assert quiet in first


def test_busy_sources_share_a_batch_alike() -> None:
    """Each gets its even part of every batch while all have enough, to within a turn."""
    queue = filled(*[Entry(flow) for flow in "abcd" for _ in range(1000)])
    for batch in batches(queue, 400)[:8]:
        for flow in "abcd":
            assert abs(sum(entry.flow == flow for entry in batch) - 100) <= QUANTUM


def test_large_events_count_by_their_bytes() -> None:
    """A source of few huge events gets no more of a batch than one of many small ones."""
    queue = filled(*[Entry("large", 1, 32 << 10) for _ in range(100)], *[Entry("small", 1, 500) for _ in range(1000)])
    taken = queue.take(400, MUCH)
    large, small = (sum(entry.flow == flow for entry in taken) for flow in ("large", "small"))
    assert small == pytest.approx(large * 8, abs=QUANTUM)


def test_an_entry_that_exceeds_a_batch_travels_alone_and_takes_its_time() -> None:
    """A request of thousands of events is carried, and what it cost its source is given to the others first."""
    queue = filled(Entry("bulk", 2000), Entry("bulk", 2000), *[Entry("quiet") for _ in range(100)])
    order = batches(queue, 100)
    assert [sum(entry.count for entry in batch) for batch in order] == [100, 2000, 2000]


def test_a_batch_is_bounded_in_bytes() -> None:
    """As many as fit, whoever sent them."""
    queue = filled(*[Entry(flow, 1, 100) for _ in range(10) for flow in "ab"])
    assert len(queue.take(1000, 500)) == 5


def test_a_discarded_entry_is_gone_and_so_is_a_source_without_any() -> None:
    """What its caller took back is not carried, and leaves no trace."""
    first, second = Entry("a"), Entry("b", 3, 50)
    queue = filled(first, second)
    for _ in range(2):
        queue.discard(first)
        queue.discard(Entry("b"))
        assert (queue.count, queue.size, queue.flows) == (3, 50, 1)
    assert queue.take(1, MUCH) == [second]
    assert (queue.count, queue.size, queue.flows, bool(queue)) == (0, 0, 0, False)


def test_who_leaves_from_the_end_costs_no_walk_over_those_before() -> None:
    """However many wait, and in whatever order they leave: thousands may be cut off at once."""
    compared = 0

    class Counted(Entry):
        """Counts how often it is compared."""

        __hash__ = Entry.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

    queue = FairQueue[Entry]()
    entries = [Counted("noisy") for _ in range(1_000)]
    for entry in entries:
        queue.push(entry)
    for entry in reversed(entries):
        queue.discard(entry)
    assert (queue.count, queue.flows) == (0, 0)
    assert compared < len(entries)


def test_it_knows_when_sources_share() -> None:
    """A batch of two sources is mixed, and so is one of another source than the batch before."""
    queue: FairQueue[Entry] = FairQueue()
    seen = []
    for flows in ("a", "a", "b", "ab", "a", "a"):
        for flow in flows:
            queue.push(Entry(flow))
        queue.take(100, MUCH)
        seen.append(queue.mixed)
    assert seen == [False, False, True, True, False, False]


ENTRIES = st.builds(Entry, st.sampled_from("abc"), st.integers(1, 300), st.integers(0, 200_000))
STEPS = st.lists(st.one_of(ENTRIES, st.integers(1, 400), st.none()), max_size=120)


@given(STEPS)
def test_whatever_comes_and_goes_nothing_is_lost_and_each_source_keeps_its_order(
    steps: list[Entry | int | None],
) -> None:
    """Any arrivals, batches and departures: each entry leaves once, in its source's order, in bounded batches."""
    queue: FairQueue[Entry] = FairQueue()
    waiting: list[Entry] = []
    left: list[Entry] = []
    for step in steps:
        if isinstance(step, Entry):
            queue.push(step)
            waiting.append(step)
        elif step is None:
            if waiting:
                queue.discard(waiting.pop(len(waiting) // 2))
        elif queue:
            taken = queue.take(step, 1 << 20)
            assert taken
            assert len(taken) == 1 or sum(entry.count for entry in taken) <= step
            assert all(before.number < after.number for before, after in pairwise(taken))
            left += taken
            waiting = [entry for entry in waiting if entry not in taken]
        assert (queue.count, queue.size) == (
            sum(entry.count for entry in waiting), sum(entry.size for entry in waiting)
        )  # fmt: skip
    left += [entry for batch in batches(queue, 500) for entry in batch]
    for flow in "abc":
        numbers = [entry.number for entry in left if entry.flow == flow]
        assert numbers == sorted(set(numbers))


@given(st.lists(st.integers(1, 50), min_size=100, max_size=200), st.integers(50, 500))
def test_no_source_waits_longer_than_its_turn(counts: list[int], max_count: int) -> None:
    """However many events others have waiting, a lone event leaves with the next batch that its turn falls into."""
    quiet = Entry("quiet")
    queue = filled(*[Entry("noisy", count) for count in counts], quiet)
    before = 0
    for batch in batches(queue, max_count):
        if quiet in batch:
            break
        before += sum(entry.count for entry in batch)
    assert before <= QUANTUM
