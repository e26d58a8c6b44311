"""Deadlines within a process."""

import contextvars

import pytest

from mesh import deadline
from mesh.errors import DeadlineExceeded


def test_without_a_deadline_the_limit_counts() -> None:
    """A call that nobody bounds gets its own limit."""
    assert deadline.left() is None
    assert deadline.remaining(3.0) == 3.0


def test_the_shorter_of_limit_and_rest() -> None:
    """The next call gets its limit, or what is left less the margin."""
    with deadline.deadline_scope(1.0):
        assert deadline.remaining(0.2) == 0.2
        assert deadline.remaining(5.0) == pytest.approx(1.0 - deadline.MARGIN_SECONDS, abs=0.1)
    assert deadline.left() is None


@pytest.mark.parametrize("seconds", [-1.0, 0.0, deadline.MARGIN_SECONDS / 2])
def test_nothing_left(seconds: float) -> None:
    """When no time is left the call is not made."""
    with deadline.deadline_scope(seconds), pytest.raises(DeadlineExceeded):
        deadline.remaining(1.0)


def test_inner_scopes_only_shrink() -> None:
    """An inner budget never extends an outer one."""
    with deadline.deadline_scope(0.5), deadline.deadline_scope(60.0):
        assert deadline.remaining(60.0) < 0.6


def test_a_fresh_scope_forgets_the_outer_one() -> None:
    """Work for many callers is not bound by the one that started it, and the outer budget holds again afterwards."""
    with deadline.deadline_scope(0.5):
        with deadline.deadline_scope(60.0, fresh=True):
            assert deadline.remaining(60.0) > 50
        assert deadline.remaining(60.0) < 0.6


def test_a_task_may_set_its_own() -> None:
    """Code that owns a whole task sets the deadline once, or clears it."""

    def task() -> None:
        deadline.set_deadline(2.0)
        assert deadline.remaining(60.0) < 2.1
        deadline.set_deadline(None)
        assert deadline.left() is None

    contextvars.Context().run(task)
