"""The count of inversions finds what is planted, and the rule mends what it is for."""

from collections.abc import Sequence

from clew.identity.v1.profile_changed_pb2 import Barrier, ProfileChanged
from tests.faults.order import ANONYMOUS_CALLS, CALLS, Visitor
from tests.faults.reading import Made, OrderFigures, figures
from tests.support.person_order import Event


def _visit(visitor: int = 0, *, key: str = "k", partition: int = 0) -> list[Event]:
    return [Event(partition, 100 * visitor + n, key, 0, Made(visitor, n)) for n in range(CALLS)]


def _found(events: Sequence[Event], visitors: int = 1, *aliases: ProfileChanged) -> OrderFigures:
    return figures(events, aliases, visitors, CALLS)


def _login(barrier: int) -> tuple[list[Event], ProfileChanged]:
    """A visit whose login merges two profiles, and the alias with a barrier at this offset."""
    events = [
        Event(
            int(n >= ANONYMOUS_CALLS),
            n,
            "user" if n >= ANONYMOUS_CALLS else "visitor",
            int(n >= ANONYMOUS_CALLS),
            Made(0, n),
        )
        for n in range(CALLS)
    ]
    barriers = [Barrier(profile_id="visitor", partition=0, offset=barrier)]
    return events, ProfileChanged(profile_id="user", merged_profile_ids=["visitor"], epoch=1, barriers=barriers)


def test_calls_in_order_have_no_inversion() -> None:
    """What stands on the topic as it was made is in order."""
    found = _found([*_visit(0), *_visit(1, key="other", partition=1)], 2)
    assert (found.inversions, found.without_rule, found.split, found.missing, found.doubled) == (0, 0, 0, 0, 0)
    assert (found.visitors, found.calls, found.stuck) == (2, 2 * CALLS, 0)


def test_a_planted_inversion_is_counted() -> None:
    """Each record behind a later call of its visitor counts, and no rule can mend it within a key."""
    swapped = _visit()
    swapped[3], swapped[4] = (
        swapped[3]._replace(value=swapped[4].value),
        swapped[4]._replace(value=swapped[3].value),
    )
    assert _found(swapped).inversions == 1
    assert _found([*_visit()[2:], *_visit()[:2]]).inversions == 2


def test_visitors_do_not_mix() -> None:
    """One visitor's calls say nothing about another's, under one key or not."""
    behind = [event._replace(offset=event.offset + 1000, value=Made(1, event.value.number)) for event in _visit(0)]
    assert _found([*_visit(0), *behind], 2).inversions == 0


def test_over_a_login_the_rule_keeps_the_order() -> None:
    """Without it, a consumer that reads the user's partition first inverts every anonymous call."""
    events, alias = _login(ANONYMOUS_CALLS)
    found = _found(events, 1, alias)
    assert (found.inversions, found.without_rule, found.split, found.stuck) == (0, ANONYMOUS_CALLS, 1, 0)


def test_a_barrier_that_lies_too_low_is_found() -> None:
    """The count rests on the barriers and not on luck."""
    events, alias = _login(ANONYMOUS_CALLS - 2)
    assert _found(events, 1, alias).inversions == 2


def test_a_barrier_that_nothing_reaches_is_found() -> None:
    """A rule that holds events for ever keeps the order too: that must not pass."""
    events, alias = _login(CALLS + 100)
    assert _found(events, 1, alias).stuck == CALLS - ANONYMOUS_CALLS


def test_a_retry_is_a_double_and_no_inversion() -> None:
    """The first record of a call has its place; a second one counts as doubled, and a missing one as missing."""
    again = Event(0, 5000, "k", 0, Made(0, 3))
    found = _found([*_visit()[:-1], again])
    assert (found.inversions, found.doubled, found.missing) == (0, 1, 1)


def test_visitors_come_in_every_combination() -> None:
    """Among a few dozen visitors each client, gateway, move and return occurs with each other."""
    made = {(v.client, v.gateway, v.moves, v.returns) for v in map(Visitor.make, range(24))}
    assert len(made) == 24
