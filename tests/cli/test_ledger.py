"""`clew ledger`: a table that people read, and an exit status that scripts do."""

import io
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from clew.collector.v1.collector_service_pb2 import FilterReason
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.ledger.v1.ledger_pb2 import FilteredCount, LedgerEntry, RejectedCount
from clew.ledger.v1.ledger_service_pb2 import GetLedgerRequest, GetLedgerResponse
from clew.ledger.v1.ledger_service_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from cli.gateway_rpc import connected
from cli.layout import Layout, write_private
from cli.ledger import BadSpan, ledger, parse_span, read_ledger, show

ENTRY = LedgerEntry(
    workspace="main",
    source="web",
    received=1_300,
    published=1_200,
    duplicate=97,
    rejected=[RejectedCount(reason=FailureReason.FAILURE_REASON_TOO_DEEP, count=2)],
    filtered=[FilteredCount(reason=FilterReason.FILTER_REASON_CONSENT, count=1)],
)


def shown(answer: GetLedgerResponse, width: int = 160, *, terminal: bool = False) -> str:
    """What is printed."""
    out = io.StringIO()
    show(answer, Console(file=out, width=width, height=40, force_terminal=terminal, color_system=None))
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


SHOPS = GetLedgerResponse(
    entries=[
        LedgerEntry(
            workspace="main",
            source=f"shop-web-production-{region}",
            received=1_234_567,
            rejected=[
                RejectedCount(reason=reason, count=1_000_000)
                for reason in (FailureReason.FAILURE_REASON_MISSING_IDENTIFIER, FailureReason.FAILURE_REASON_TOO_DEEP)
            ],
        )
        for region in ("eu", "us")
    ],
    balanced=True,
)


def test_a_pipe_gets_whole_lines_however_long() -> None:
    """A line for each source and one of headings, nothing cut or folded, whatever the width."""
    text = shown(SHOPS, width=40)
    heading, *rows = text.splitlines()[:3]
    assert heading.split()[:5] == ["workspace", "source", "received", "published", "duplicate"]
    assert "rejected missing identifier" in heading
    assert [row.split()[1] for row in rows] == ["shop-web-production-eu", "shop-web-production-us"]
    assert "…" not in text


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160])
def test_a_terminal_cuts_nothing(width: int) -> None:
    """Names fold, numbers and headings stay whole, and where there is no room for a table each source has lines."""
    text = shown(SHOPS, width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("1,234,567") == 2
    assert text.count("1,000,000") == 4
    assert "received" in text
    assert "identifier" in text
    # Folded or whole: what stands below the beginning of a name goes on with it.
    start = next(line.index("shop-web") for line in text.splitlines() if "shop-web" in line)
    names = "".join(line[start:].partition(" ")[0] for line in text.splitlines())
    assert "shop-web-production-eu" in names
    assert "shop-web-production-us" in names


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


def test_a_gateway_that_is_gone_is_said_as_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words, without what gRPC says; exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    endpoints = {"http": "", "kafka": "", "grpc": {"gateway": address}, "write_key": "", "admin_token": "t"}
    write_private(Layout(tmp_path).endpoints, endpoints)
    assert ledger(tmp_path, 0, source="", minutes=False, as_json=False) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "clew ledger: the gateway does not answer; is `clew up` still running?\n")


def test_without_a_mesh_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, as when the counts do not add up."""
    assert ledger(tmp_path, 0, source="", minutes=False, as_json=False) == 1
    assert "clew up" in capsys.readouterr().err


class LongLedger(LedgerServiceServicer):
    """A gateway that has counted every minute of a month, for sources with long names."""

    def GetLedger(self, request: GetLedgerRequest, context: Any) -> GetLedgerResponse:  # noqa: N802, ARG002, D102
        entry = LedgerEntry(workspace="w" * 64, source="s" * 64, received=1, published=1)
        return GetLedgerResponse(entries=[entry] * 50_000, balanced=True)


def test_the_longest_ledger_that_a_gateway_sends_is_read() -> None:
    """It is longer than what gRPC's clients take unless they are told."""
    server = grpc.server(ThreadPoolExecutor(1))
    add_LedgerServiceServicer_to_server(LongLedger(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with connected(Path("nowhere"), f"127.0.0.1:{port}", "token") as gateway:
            answer = read_ledger(gateway, 0)
    finally:
        server.stop(None).wait()
    assert len(answer.entries) == 50_000
    assert answer.ByteSize() > 4 << 20
