"""The weather's report: a row for each fault, and what fails the run."""

from dataclasses import replace

import pytest

from tests.weather.phase import Row
from tests.weather.report import render

_ROW = Row(
    name="leader",
    title="leader killed",
    acknowledged=1200,
    duplicates=3,
    lost=0,
    doubled=0,
    inversions=0,
    lasted=6.04,
    before=0.021,
    during=3.5,
    back=4.2,
    refused={"ReadError": 2, "503": 30},
)


def test_a_row_tells_what_was_measured() -> None:
    """Seconds, milliseconds and refusals, the most frequent first; the ledger is named."""
    text = render("2026-11-26", [_ROW, replace(_ROW, refused={})], 90.0, [])
    assert "2 faults in 1.5 minutes, 2,400 events acknowledged; the ledger balances" in text
    assert "| leader killed | 6.0 | 1,200 | 0 | 0 | 0 | 21 | 3,500 | 4.2 | 503 30, ReadError 2 |" in text
    assert "| 4.2 | none |" in text


def test_a_ledger_that_does_not_agree_is_said() -> None:
    """In the report itself, not only in the exit status."""
    assert "received 2 is not 3" in render("2026-11-26", [_ROW], 90.0, ["received 2 is not 3"])


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (replace(_ROW, lost=2), "lost"),
        (replace(_ROW, doubled=2), "doubled"),
        (replace(_ROW, inversions=2), "out of order"),
        (replace(_ROW, misplaced=2), "on the wrong topic"),
    ],
)
def test_a_broken_promise_is_a_problem(row: Row, word: str) -> None:
    """A loss, a double and an inversion fail the run; refusals alone do not."""
    assert _ROW.problems == []
    assert row.problems == [f"leader: 2 events {word}"]


def test_where_nobody_may_see_anything_a_refusal_is_a_problem() -> None:
    """With a spool an outage must not be seen."""
    assert replace(_ROW, unseen=True).problems == ["leader: 32 events answered with an error"]
    assert replace(_ROW, unseen=True, refused={}).problems == []
