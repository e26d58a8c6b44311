"""`clew ledger`: a table that people read, and an exit status that scripts do."""

import io
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from clew.collector.v1.collector_service_pb2 import FilterReason
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.ledger.v1.ledger_pb2 import FilteredCount, LedgerEntry, RejectedCount
from clew.ledger.v1.ledger_service_pb2 import GetLedgerResponse
from cli.ledger import BadSpan, ledger, parse_span, show

ENTRY = LedgerEntry(
    workspace="main",
    source="web",
    received=1_300,
    published=1_200,
    duplicate=97,
    rejected=[RejectedCount(reason=FailureReason.FAILURE_REASON_TOO_DEEP, count=2)],
    filtered=[FilteredCount(reason=FilterReason.FILTER_REASON_CONSENT, count=1)],
)


def shown(answer: GetLedgerResponse) -> str:
    """What is printed, on a wide terminal."""
    out = io.StringIO()
    show(answer, Console(file=out, width=160))
    return out.getvalue()


def test_counts_stand_under_their_reasons_and_the_verdict_below() -> None:
    """A column for each reason that occurs, zero where a source has none of it."""
    other = LedgerEntry(workspace="main", source="app", received=1, published=1)
    text = shown(GetLedgerResponse(entries=[other, ENTRY], in_flight=3, balanced=True))
    rows = [line.split() for line in text.splitlines() if "main" in line]
    assert rows == [
        ["main", "app", "1", "1", "0", "0", "0"],
        ["main", "web", "1,300", "1,200", "97", "2", "1"],
    ]
    assert "too deep" in text
    assert "in flight 3   balanced" in text


def test_minutes_are_shown_when_there_are_any() -> None:
    """In UTC."""
    minute = Timestamp(seconds=1_795_446_660)
    entry = LedgerEntry(workspace="main", source="web", minute_time=minute, received=1, published=1)
    assert "2026-11-23 15:11" in shown(GetLedgerResponse(entries=[entry], balanced=True))


def test_what_does_not_add_up_or_is_cut_short_is_said() -> None:
    """Nobody has to add for himself."""
    text = shown(GetLedgerResponse(entries=[ENTRY], balanced=False, truncated=True))
    assert "does not add up" in text
    assert "not all is shown" in text


@pytest.mark.parametrize(("text", "seconds"), [("", 0), ("90s", 90), ("15m", 900), ("6h", 21_600), ("2d", 172_800)])
def test_spans_are_read(text: str, seconds: int) -> None:
    """As people write them."""
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["1", "m", "-5m", "1w", "1.5h", "5 m"])
def test_other_spans_are_refused(text: str) -> None:
    """And not guessed at."""
    with pytest.raises(BadSpan):
        parse_span(text)


def test_without_a_mesh_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, as when the counts do not add up."""
    assert ledger(tmp_path, 0, source="", minutes=False, as_json=False) == 1
    assert "clew up" in capsys.readouterr().err
