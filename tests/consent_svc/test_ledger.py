"""Entries and their place in the ledger."""

import pytest

from consent_svc.errors import DecideTimeRefused
from consent_svc.ledger import Statement, check_decide_time, enter

NOW = 1_750_000_000 * 10**9
SECOND = 10**9


def statement(decide_ns: int | None = None) -> Statement:
    """Make a statement that was decided at a time."""
    return Statement("w", "p", 4, 8, "banner v3", "2025-01", decide_ns)


def test_an_entry_follows_the_last_one_of_its_workspace() -> None:
    """Epochs ascend by one, from 1 in an empty ledger; nothing of the statement is lost."""
    assert enter(statement(), 0, 0, NOW).epoch == 1
    entry = enter(statement(), 41, NOW, NOW)
    assert (entry.epoch, entry.subject, entry.granted, entry.denied) == (42, "p", 4, 8)
    assert (entry.origin, entry.policy_version) == ("banner v3", "2025-01")


def test_record_time_never_runs_backwards() -> None:
    """When our clock is set back, an entry is dated after the one before it, so that it still counts as newer."""
    entry = enter(statement(), 1, NOW, NOW - 5 * SECOND)
    assert entry.record_ns == entry.decide_ns == entry.effective_ns == NOW + 1
    assert not enter(statement(), 1, NOW, NOW).clock_behind


def test_while_our_clock_is_behind_a_refusal_counts_from_its_record() -> None:
    """What a caller's right clock says is then older than all that is on record: it may not save a grant."""
    entry = enter(statement(NOW - 5 * SECOND), 1, NOW, NOW - 5 * SECOND)
    assert (entry.decide_ns, entry.effective_ns, entry.refused_ns) == (NOW - 5 * SECOND, NOW - 5 * SECOND, NOW + 1)
    right = enter(statement(NOW - 5 * SECOND), 1, NOW - SECOND, NOW)
    assert right.refused_ns == right.effective_ns == NOW - 5 * SECOND


def test_a_choice_counts_from_when_it_was_decided_but_not_after_its_record() -> None:
    """The caller's time is kept as it is; what counts is bounded by the record time."""
    assert enter(statement(NOW - SECOND), 0, 0, NOW).effective_ns == NOW - SECOND
    ahead = enter(statement(NOW + SECOND), 0, 0, NOW)
    assert (ahead.decide_ns, ahead.effective_ns) == (NOW + SECOND, NOW)


@pytest.mark.parametrize("decide_ns", [None, 0, NOW, NOW + 60 * SECOND])
def test_times_up_to_a_minute_ahead_are_taken(decide_ns: int | None) -> None:
    """Clocks differ: 60 seconds ahead of ours is still now."""
    check_decide_time(decide_ns, NOW)


@pytest.mark.parametrize(
    ("decide_ns", "why"), [(NOW + 60 * SECOND + 1, "is in the future"), (-1, "is before 1970"), (10**30, "future")]
)
def test_times_that_cannot_be_true_are_refused(decide_ns: int, why: str) -> None:
    """A decision in the future, or before computers kept such times, is refused with the field's name."""
    with pytest.raises(DecideTimeRefused, match=why) as refusal:
        check_decide_time(decide_ns, NOW)
    assert refusal.value.metadata["field"] == "decide_time"
