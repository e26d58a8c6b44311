"""`clew trace`: one request, across processes, as a waterfall."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.trace import render_waterfall, trace, waterfall_text
from cli.waterfall import Waterfall, duration_text
from mesh.span_writer import SegmentWriter, encode_span
from mesh.spans import SpanLink, SpanRecord

TRACE = "a" * 32
OTHER = "b" * 32
MILLI = 10**6
EPOCH = 1_750_000_000 * 10**9


def span(number: int, parent: int = 0, *, at: float = 0, took: float = 1, **changes: Any) -> SpanRecord:
    """A span by numbers: its own, its parent's, and milliseconds."""
    start = EPOCH + int(at * MILLI)
    values: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "service": "gateway",
        "process_id": 1,
        "name": f"span {number}",
        "start_ns": start,
        "end_ns": start + int(took * MILLI),
        "parent_span_id": f"{parent:016x}" if parent else "",
    }
    return SpanRecord(**(values | changes))


REQUEST = [
    span(1, at=0, took=12, name="POST /v1/batch", attributes={"http.response.status_code": 200}),
    span(2, 1, at=1, took=10, name="clew.batch", attributes={"clew.batch.events": 100}),
    span(3, 2, at=2, took=3, name="clew.identity.v1.IdentityService/BatchResolveIdentities"),
    span(
        4,
        3,
        at=3,
        took=1,
        name="clew.identity.v1.IdentityService/BatchResolveIdentities",
        service="identity",
        process_id=2,
    ),
    span(
        5,
        2,
        at=6,
        took=2,
        name="clew.consent.v1.ConsentService/BatchCheckConsents",
        status="ERROR",
        status_message="gone",
    ),
]


def drawn(spans: list[SpanRecord], width: int = 140) -> list[str]:
    """What a terminal of that width shows."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(render_waterfall(spans))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def order(spans: list[SpanRecord]) -> list[tuple[str, int]]:
    """Names and depths, top to bottom."""
    return [(row.span.name, row.depth) for row in Waterfall(spans).rows]


def test_a_terminal_sees_service_name_times_bar_and_outcome() -> None:
    """Each span has its service, indented name, offset, duration, bar and status on one line, below a summary."""
    summary, header, *rows = drawn(REQUEST)
    assert summary.startswith(f"trace {TRACE}, 2025-06-15 15:06:40 UTC, 12.0 ms, 5 spans, 2 processes, 1 failed")
    assert header.split() == ["service", "span", "start", "took", "status"]
    assert rows[0].split()[:7] == ["gateway", "POST", "/v1/batch", "0", "µs", "12.0", "ms"]
    assert "━" in rows[0]
    assert rows[0].rstrip().endswith("200")
    assert "  clew.batch" in rows[1]
    assert rows[1].rstrip().endswith("events=100")
    assert rows[3].startswith("identity")
    assert "      IdentityService/BatchResolveIdentities" in rows[3]
    assert rows[4].rstrip().endswith("ERROR gone")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_it_fits_the_terminal(width: int) -> None:
    """No line is wider than the terminal; at 80 columns times and bars are whole."""
    lines = drawn(REQUEST, width)
    assert max(len(line) for line in lines) <= width
    if width >= 60:
        counted = span(1, took=12, name="publish", attributes={"clew.batch.message_count": 12})
        # Folded perhaps, and nothing of it lost.
        lines = drawn([counted, *REQUEST[1:]], width)
        last = next(line.index("status") for line in lines if "status" in line)
        assert "".join(line[last:].strip() for line in lines).count("message_count=12") == 1
    if width >= 80:
        assert any("12.0 ms" in line and "━━━" in line for line in lines)


def test_plain_text_is_one_line_a_span() -> None:
    """Away from a terminal each span is one line in columns, with its full name and no control sequences."""
    summary, *rows = waterfall_text(REQUEST).splitlines()
    assert summary.startswith(f"trace {TRACE}")
    assert len(rows) == 5
    assert rows[2].split()[:2] == ["gateway", "clew.identity.v1.IdentityService/BatchResolveIdentities"]
    assert len({row.index("|") for row in rows}) == 1
    assert rows[0].count("=") == 40
    assert rows[0].endswith("|  200")


def test_bars_stand_where_the_time_went() -> None:
    """A bar begins and ends in proportion; the shortest has one cell and the last stays within the line."""
    spans = [
        span(1, at=0, took=100),
        span(2, 1, at=50, took=25),
        span(3, 1, at=100, took=0),
        span(4, 1, at=10, took=0.001),
    ]
    waterfall = Waterfall(spans)
    assert [waterfall.bar(item, 40) for item in spans] == [(0, 40), (20, 10), (39, 1), (4, 1)]


def test_callers_stand_above_what_they_called() -> None:
    """Children follow their parent by start time, whatever order the store gave them in."""
    spans = [span(4, 2, at=3), span(3, 1, at=5), span(2, 1, at=2), span(1, at=0, took=9)]
    assert order(spans) == [("span 1", 0), ("span 2", 1), ("span 4", 2), ("span 3", 1)]


def test_a_batch_of_another_trace_stands_below_the_request_that_it_links_to() -> None:
    """A linked span and what it caused are shown under the request, and marked."""
    batch = span(7, 9, at=1, trace_id=OTHER, links=(SpanLink(TRACE, f"{1:016x}"), SpanLink("c" * 32, "1" * 16)))
    spans = [span(1, took=9), batch, span(8, 7, at=2, trace_id=OTHER)]
    assert order(spans) == [("span 1", 0), ("span 7", 1), ("span 8", 2)]
    text = waterfall_text(spans)
    assert "span 7 (linked)" in text
    assert "span 8 (linked)" not in text
    assert "2 links" in text
    assert f"links to traces {'c' * 32}" in text


def test_a_span_whose_caller_is_unknown_stands_at_the_top() -> None:
    """A parent outside the mesh, or lost, does not hide its children."""
    assert order([span(2, 99, at=1), span(1, 98)]) == [("span 1", 0), ("span 2", 0)]


def test_forged_parents_are_shown_once() -> None:
    """Spans that are their own ancestors appear once each, and the drawing ends."""
    spans = [span(1, 2), span(2, 1), span(3, 3), span(4), span(5, links=(SpanLink(TRACE, f"{5:016x}"),))]
    assert sorted(name for name, _ in order(spans)) == [f"span {number}" for number in range(1, 6)]


def test_a_very_deep_trace_is_drawn() -> None:
    """Thousands of nested spans neither exhaust the stack nor push the names off the line."""
    lines = drawn([span(number, number - 1, at=number) for number in range(1, 3000)], width=100)
    assert len(lines) == 3001
    assert "span 2999" in lines[-1]


def test_what_clients_sent_cannot_steer_the_terminal() -> None:
    """Control characters in names, services and messages are shown as dots."""
    evil = span(1, name="\x1b[2J[bold]x", service="\x1b]0;t\x07", status="ERROR", status_message="a\nb\x1b[31m")
    console = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
    console.print(render_waterfall([evil]))
    assert isinstance(console.file, io.StringIO)
    for text in (console.file.getvalue(), waterfall_text([evil])):
        assert "\x1b[2J" not in text
        assert "\x1b]0" not in text
        assert "\x1b[31m" not in text
        assert "·[2J[bold]x" in text
        assert "a·b" in text


def test_nothing_is_drawn_as_nothing() -> None:
    """No spans is said, not an error."""
    assert drawn([]) == ["no spans"]
    assert waterfall_text([]) == "no spans\n"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 µs"),
        (1_500, "2 µs"),
        (999_000, "999 µs"),
        (1_000_000, "1.0 ms"),
        (12_345_678, "12.3 ms"),
        (2_500_000_000, "2.50 s"),
    ],
)
def test_durations_read_well(nanoseconds: int, text: str) -> None:
    """A duration is shown in the unit that suits it."""
    assert duration_text(nanoseconds) == text


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory that holds one request's spans."""
    for service in ("gateway", "identity"):
        writer = SegmentWriter(tmp_path, service)
        writer.write(b"".join(encode_span(item) for item in REQUEST if item.service == service))
        writer.close()
    return tmp_path


@pytest.mark.parametrize("wanted", ["last", TRACE, TRACE.upper()])
def test_the_command_prints_plain_text_into_a_pipe(data_dir: Path, wanted: str) -> None:
    """Redirected output is the plain form, for the last trace and for one by id; the exit code is 0."""
    console = Console(file=io.StringIO(), width=40)
    assert trace(wanted, data_dir, console) == 0
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == waterfall_text(REQUEST)


def test_the_command_draws_on_a_terminal(data_dir: Path) -> None:
    """A terminal gets colours and bars."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    assert trace("last", data_dir, console) == 0
    assert isinstance(console.file, io.StringIO)
    assert "━" in console.file.getvalue()
    assert "\x1b[" in console.file.getvalue()


@pytest.mark.parametrize(
    ("wanted", "hint"), [("last", "send an event first"), ("f" * 32, "sampled"), ("x\x1b[2J", "no spans")]
)
def test_a_missing_trace_says_what_to_do(
    tmp_path: Path, wanted: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing found is exit code 1 and a hint on standard error."""
    monkeypatch.setattr("cli.trace._RETRY_SECONDS", 0)
    assert trace(wanted, tmp_path) == 1
    captured = capsys.readouterr()
    assert hint in captured.err
    assert "\x1b" not in captured.err
    assert not captured.out


def test_spans_that_arrive_a_moment_later_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked right after a request, the command waits until its spans have left their process."""

    def arrive(_seconds: float) -> None:
        writer = SegmentWriter(tmp_path, "gateway")
        writer.write(encode_span(REQUEST[0]))
        writer.close()

    monkeypatch.setattr("cli.trace.time.sleep", arrive)
    assert trace("last", tmp_path, Console(file=io.StringIO())) == 0
