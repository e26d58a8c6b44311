"""The report sums pieces up truthfully and fails where it must."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.audit import Double
from tests.faults.report import BEGIN, END, render, write_into
from tests.faults.result import Piece, Results, quantile

_PIECE = Piece(
    date="2026-11-25",
    seed=1,
    gateways=1,
    seconds=6.0,
    recoveries=[("kafka", 4.0, 4.0), ("gateway-1", 1.0, 1.0)],
    sent={"own client": 90, "segment-python": 20},
    accepted=100,
    rejected=3,
    filtered=5,
    duplicates=2,
    retried=7,
    given_up=2,
    pending=1,
    answers={"200": 40, "503": 10},
    lost={},
    doubled={"a": Double("gateway-1", [-0.1, 2.0]), "b": Double("kafka", [0.0, 9.0]), "c": Double("kafka", [1.0, 9.5])},
    leaked=[],
    strangers=[],
    failed_again=1,
    peak_mib={"gateway-1": 90.4},
)
_TWO = replace(
    _PIECE,
    date="2026-11-26",
    gateways=2,
    doubled={},
    recoveries=[("gateway-2", 0.1, 2.0), ("gateway-1", 0.3, 1.5)],
    peak_mib={"gateway-2": 95.0},
)
_ORDER = {"date": "2026-11-25", "visitors": 1000, "calls": 21000, "inversions": 0, "split": 500}


def test_a_run_without_a_fault_has_no_problem() -> None:
    """Nothing lost, doubled, leaked or strange: the run has passed."""
    assert Results([_TWO], {**_ORDER, "missing": 0, "doubled": 0}).problems(allow_doubled=False) == []


def test_a_double_is_a_failure_unless_it_is_allowed() -> None:
    """Only who says so gets a run with doubles passed."""
    results = Results([_PIECE])
    assert results.problems(allow_doubled=True) == []
    (problem,) = results.problems(allow_doubled=False)
    assert "3 messages doubled" in problem
    order = Results([], {**_ORDER, "missing": 0, "doubled": 2})
    assert order.problems(allow_doubled=True) == []
    assert order.problems(allow_doubled=False) == ["order: 2 doubled of 21000 calls"]


@pytest.mark.parametrize(
    "piece",
    [
        replace(_TWO, lost={"a": "kafka"}),
        replace(_TWO, leaked=["a"]),
        replace(_TWO, strangers=["a"]),
    ],
)
def test_everything_else_is_a_failure(piece: Piece) -> None:
    """A loss, a leak or a stranger fails the run, whatever is allowed."""
    assert len(Results([_TWO, piece]).problems(allow_doubled=True)) == 1


@pytest.mark.parametrize("what", ["inversions", "missing"])
def test_an_inversion_is_a_failure(what: str) -> None:
    """A person's order that does not hold, or a call that is missing, fails the run."""
    order = {**_ORDER, "missing": 0, "doubled": 0, what: 3}
    assert Results([_TWO], order).problems(allow_doubled=True) == [f"order: 3 {what} of 21000 calls"]


def test_pieces_are_summed_up() -> None:
    """The report counts over all pieces, by number of gateways, and says which kills the doubles come from."""
    text = render(Results([_PIECE, _PIECE, _TWO], {**_ORDER, "missing": 0, "doubled": 0}))
    assert "2026-11-25 to 2026-11-26: 6 rounds in 3 runs, seeds 1, 3.0 s a round." in text
    assert "| 1 | 4 | 220 | 216 | 0 | 6 (kafka 4, gateway 2) | 10 | 0 |" in text
    assert "| 2 | 2 | 110 | 108 | 0 | 0 | 5 | 0 |" in text
    assert "| all | 6 | 330 | 324 | 0 | 6 (kafka 4, gateway 2) | 15 | 0 |" in text
    assert "| gateway | 2 | 0.10 | 0.30 | 0.30 | 1.50 | 2.00 | 2.00 |" in text
    assert "gateway 95" in text
    assert "gave up 6 messages and held 3" in text
    assert "**0 inversions**" in text


def test_results_survive_the_file(tmp_path: Path) -> None:
    """What one run has saved another one continues."""
    results = Results([_PIECE, _TWO], {**_ORDER, "missing": 0, "doubled": 0})
    results.save(tmp_path / "new" / "results.json")
    loaded = Results.load(tmp_path / "new" / "results.json")
    assert loaded == results
    assert (loaded.rounds(), loaded.rounds(2)) == (4, 2)
    assert Results.load(tmp_path / "none.json") == Results()


def test_only_the_figures_of_the_document_change(tmp_path: Path) -> None:
    """What people wrote around the figures stays; a document without a place for them is refused."""
    document = tmp_path / "doc.md"
    document.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    write_into(document, "new")
    assert document.read_text() == f"# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore\n"
    document.write_text("# Title\n")
    with pytest.raises(ValueError, match="no place"):
        write_into(document, "new")


def test_a_quantile_is_a_value_that_was_measured() -> None:
    """Nearest rank: the p99 of fewer than a hundred values is the largest."""
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 2.0], 0.5) == 1.0
    assert quantile([float(value) for value in range(1, 101)], 0.99) == 99.0
    assert quantile([5.0, 1.0], 0.99) == 5.0
