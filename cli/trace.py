"""`clew trace`: one request's waterfall across all processes, from the local span store."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cli.terminal import console as terminal
from cli.waterfall import Row, Waterfall, duration_text
from mesh.spans import SpanRecord, find_trace, last_trace_id

_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")
_ERROR_COLOUR: Final = "red"
# A forged trace can be deep; the name must stay readable.
_MAX_INDENT = 6
_PLAIN_BAR_WIDTH = 40
_MIN_BAR_WIDTH, _MAX_BAR_WIDTH = 10, 60
_MAX_OTHER_TRACES = 3

# Spans leave their process within 100 ms: whoever asks right after the request waits a little rather than in vain.
_ATTEMPTS = 4
_RETRY_SECONDS = 0.15


def trace(trace_id: str, data_dir: Path, console: Console | None = None) -> int:
    """Print a trace, or the `last` one. The exit code: 0, or 1 when there is no such trace.

    On a terminal it is drawn; elsewhere it is text of one line a span, for `grep` and for records.
    """
    spans = _find(trace_id, data_dir)
    if not spans:
        sys.stderr.write(_not_found(trace_id, data_dir) + "\n")
        return 1
    print_waterfall(spans, console or terminal())
    return 0


def print_waterfall(spans: Sequence[SpanRecord], console: Console) -> None:
    """Draw it on a terminal; elsewhere print it as text."""
    if console.is_terminal:
        console.print(render_waterfall(spans))
    else:
        # Not through the console, which would fold lines at 80 columns.
        console.file.write(waterfall_text(spans))


def render_waterfall(spans: Sequence[SpanRecord]) -> RenderableType:
    """The waterfall as something for a rich console to print; it fits itself to the width."""
    if not spans:
        return Text("no spans", style="dim")
    waterfall = Waterfall(spans)
    colours = {service: _COLOURS[i % len(_COLOURS)] for i, service in enumerate(waterfall.services())}
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    table.add_column("service", no_wrap=True)
    # Only what may shrink on a narrow terminal is allowed to wrap; the names themselves are cut instead.
    # None has a least width, which would push the last one beyond the terminal's edge.
    table.add_column("span")
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("status", overflow="fold")
    for row in waterfall.rows:
        colour = colours[row.span.service]
        table.add_row(
            Text(_printable(row.span.service), style=colour),
            _name(row, short=True),
            duration_text(waterfall.offset_ns(row.span)),
            duration_text(row.span.duration_ns),
            _Bar(waterfall, row.span, _ERROR_COLOUR if row.span.status == "ERROR" else colour),
            Text(_outcome(row.span), style=_ERROR_COLOUR if row.span.status == "ERROR" else "dim"),
        )
    return Group(
        Text(_summary(waterfall), style="bold"), table, *(Text(note, style="dim") for note in _notes(waterfall))
    )


def waterfall_text(spans: Sequence[SpanRecord]) -> str:
    """The waterfall as plain text: a summary, then one line a span, in columns."""
    if not spans:
        return "no spans\n"
    waterfall = Waterfall(spans)
    lines = [_cells(waterfall, row) for row in waterfall.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = [
        f"{service:<{widths[0]}}  {name:<{widths[1]}}  {start:>{widths[2]}}  {took:>{widths[3]}}  {bar}  {end}".rstrip()
        for service, name, start, took, bar, end in lines
    ]
    return "\n".join([_summary(waterfall), *rows, *_notes(waterfall)]) + "\n"


class _Bar:
    """A span's bar, drawn over whatever width the table leaves for it."""

    def __init__(self, waterfall: Waterfall, span: SpanRecord, colour: str) -> None:
        self._waterfall = waterfall
        self._span = span
        self._style = Style.parse(colour)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _MAX_BAR_WIDTH)
        begin, length = self._waterfall.bar(self._span, width)
        # A console that is limited to ASCII, such as a log of a build, cannot show the heavy line.
        mark = "=" if options.ascii_only else "━"
        yield Segment(" " * begin)
        yield Segment(mark * length, self._style)
        yield Segment(" " * (width - begin - length))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(_MIN_BAR_WIDTH, options.max_width), min(_MAX_BAR_WIDTH, options.max_width))


def _find(trace_id: str, data_dir: Path) -> list[SpanRecord]:
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_RETRY_SECONDS)
        wanted = last_trace_id(data_dir) if trace_id == "last" else trace_id
        if wanted and (spans := find_trace(data_dir, wanted)):
            return spans
    return []


def _not_found(trace_id: str, data_dir: Path) -> str:
    if trace_id == "last":
        return f"no trace is stored under {data_dir}; send an event first, or name the mesh's --data-dir"
    return (
        f"no spans of trace {_printable(trace_id)} are stored under {data_dir}; it may not have been sampled, "
        "be older than the store reaches, or belong to another --data-dir"
    )


def _summary(waterfall: Waterfall) -> str:
    started = datetime.fromtimestamp(waterfall.start_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    parts = [
        f"trace {waterfall.trace_id}",
        f"{started} UTC",
        duration_text(waterfall.total_ns),
        f"{len(waterfall.rows)} spans",
        f"{waterfall.processes} processes",
    ]
    return ", ".join([*parts, f"{waterfall.errors} failed"] if waterfall.errors else parts)


def _notes(waterfall: Waterfall) -> list[str]:
    others = waterfall.other_traces()
    if not others:
        return []
    named = ", ".join(others[:_MAX_OTHER_TRACES])
    more = f" and {len(others) - _MAX_OTHER_TRACES} more" if len(others) > _MAX_OTHER_TRACES else ""
    return [f"links to traces {named}{more}"]


def _cells(waterfall: Waterfall, row: Row) -> tuple[str, str, str, str, str, str]:
    begin, length = waterfall.bar(row.span, _PLAIN_BAR_WIDTH)
    return (
        _printable(row.span.service),
        _name(row).plain,
        duration_text(waterfall.offset_ns(row.span)),
        duration_text(row.span.duration_ns),
        f"|{' ' * begin}{'=' * length}{' ' * (_PLAIN_BAR_WIDTH - begin - length)}|",
        _outcome(row.span),
    )


def _name(row: Row, *, short: bool = False) -> Text:
    """The span's name, indented; in short, an rpc's name goes without its package."""
    package, slash, method = row.span.name.rpartition("/")
    name = f"{package.rpartition('.')[2]}/{method}" if short and slash and " " not in package else row.span.name
    text = Text("  " * min(row.depth, _MAX_INDENT) + _printable(name), no_wrap=True, overflow="ellipsis")
    return text.append(" (linked)", style="dim") if row.linked else text


def _outcome(span: SpanRecord) -> str:
    """The call's own status, what went wrong, how many links, and the counts that it carries."""
    code = span.attributes.get("http.response.status_code") or span.attributes.get("rpc.response.status_code") or ""
    failed = " ".join(part for part in ("ERROR" if span.status == "ERROR" else "", span.status_message) if part)
    links = f"{len(span.links)} link{'s' if len(span.links) > 1 else ''}" if span.links else ""
    counts = [f"{name.rpartition('.')[2]}={value}" for name, value in span.attributes.items() if _is_count(name, value)]
    return _printable(", ".join(part for part in (str(code), failed, *counts, links) if part))


def _is_count(name: str, value: object) -> bool:
    return isinstance(value, int) and (".batch." in name or name.endswith("_count"))


def _printable(text: str) -> str:
    """Text that cannot steer the terminal: parts of a span come from clients."""
    return "".join(character if character.isprintable() else "·" for character in text)
