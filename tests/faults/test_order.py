"""The count of inversions finds what is planted."""

from tests.faults.order import CALLS, Entry, Visitor, figures


def _visit(visitor: int = 0, *, key: str = "k", partition: int = 0) -> list[Entry]:
    return [Entry(key, partition, 100 * visitor + number, visitor, number) for number in range(CALLS)]


def test_calls_in_order_have_no_inversion() -> None:
    """What stands on the topic as it was made is in order, however it was read."""
    found = figures([*reversed(_visit(0)), *_visit(1, key="other", partition=1)], 2)
    assert (found.inversions, found.split, found.missing, found.doubled) == (0, 0, 0, 0)
    assert (found.visitors, found.calls) == (2, 2 * CALLS)


def test_a_planted_inversion_is_counted() -> None:
    """Each record behind a later call of its visitor counts."""
    swapped = [
        Entry(entry.key, entry.partition, {3: 4, 4: 3}.get(entry.offset, entry.offset), entry.visitor, entry.number)
        for entry in _visit()
    ]
    assert figures(swapped, 1).inversions == 1
    last = [Entry(e.key, e.partition, e.offset + (1000 if e.number < 2 else 0), e.visitor, e.number) for e in _visit()]
    assert figures(last, 1).inversions == 2


def test_visitors_do_not_mix() -> None:
    """One visitor's calls say nothing about another's, under one key or not."""
    behind = [Entry("k", 0, entry.offset + 1000, 1, entry.number) for entry in _visit(0)]
    assert figures([*_visit(0), *behind], 2).inversions == 0


def test_a_change_of_keys_is_no_inversion_and_is_counted() -> None:
    """From one key to the other there is no order to break; the visitor is counted as split."""
    entries = [
        Entry("a" if e.number < 10 else "b", int(e.number >= 10), e.offset, e.visitor, e.number) for e in _visit()
    ]
    found = figures(entries, 1)
    assert (found.inversions, found.split) == (0, 1)


def test_a_retry_is_a_double_and_no_inversion() -> None:
    """The first record of a call has its place; a second one counts as doubled, and a missing one as missing."""
    again = Entry("k", 0, 5000, 0, 3)
    found = figures([*_visit()[:-1], again], 1)
    assert (found.inversions, found.doubled, found.missing) == (0, 1, 1)


def test_visitors_come_in_every_combination() -> None:
    """Among a few dozen visitors each client, gateway, move and return occurs with each other."""
    made = {(v.client, v.gateway, v.moves, v.returns) for v in map(Visitor.make, range(24))}
    assert len(made) == 24
