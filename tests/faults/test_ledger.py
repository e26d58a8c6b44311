"""The ledger beside the topics: whatever does not agree is said."""

import pytest

from tests.faults.ledger import Counts, imbalance

GOOD = Counts(received=12, published=6, duplicate=2, rejected=3, filtered=1)


def test_a_ledger_that_agrees_is_silent() -> None:
    """Counts that add up, and are those of the topics and at least those that clients were told."""
    assert imbalance(GOOD, events=6, failed=3, filtered=["m-1"]) == []


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        (Counts(received=13, published=6, duplicate=2, rejected=3, filtered=1), "received 13"),
        (Counts(received=11, published=5, duplicate=2, rejected=3, filtered=1), "published 5"),
        (Counts(received=11, published=6, duplicate=2, rejected=2, filtered=1), "rejected 2"),
        (Counts(received=11, published=6, duplicate=2, rejected=3), "filtered 0"),
    ],
)
def test_what_does_not_agree_is_said(counts: Counts, word: str) -> None:
    """One line for each, with both numbers."""
    (problem,) = imbalance(counts, events=6, failed=3, filtered=["m-1"])
    assert problem.startswith(word)
