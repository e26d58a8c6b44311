"""Tables: drawn on a terminal, plain columns for whatever reads them otherwise."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.records import printable
from cli.terminal import console as terminal

# What the text columns need beside numbers: a terminal that has less gets a block of lines for each row.
_LEAST_TEXT: Final = 12


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None, *, numbers: int = 0
) -> None:
    """Print rows under headings; nothing in a cell can steer the terminal, and none is cut.

    Args:
        headings: One for each column; where a line ends within one, only a terminal sees it.
        rows: Their cells.
        console: Where to; standard output without it.
        numbers: How many columns, from the right, hold numbers: these stand to the right, and are never folded.
    """
    console = console or terminal()
    cells = [[printable(cell) for cell in row] for row in rows]
    texts = len(headings) - numbers
    if not console.is_terminal:
        _print_plain([_in_one_line(headings), *cells], texts, console)
    elif numbers and _least_width(headings, cells, texts) > console.width:
        _print_blocks(_in_one_line(headings), cells, texts, console)
    else:
        _draw(headings, cells, texts, console)


def _draw(headings: Sequence[str], cells: Sequence[Sequence[str]], texts: int, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings[:texts]:
        table.add_column(heading, overflow="fold")
    for heading in headings[texts:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in cells:
        # Not markup: a name may hold brackets.
        table.add_row(*map(Text, row))
    console.print(table)


def _print_plain(lines: Sequence[Sequence[str]], texts: int, console: Console) -> None:
    # Not through the console, which would fold lines at 80 columns.
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        padded = (
            f"{cell:{'<' if column < texts else '>'}{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        console.file.write("  ".join(padded).rstrip() + "\n")


def _print_blocks(headings: Sequence[str], cells: Sequence[Sequence[str]], texts: int, console: Console) -> None:
    widest = max(map(len, headings))
    for row in cells:
        console.print(Text("  ".join(row[:texts]), style="bold"), overflow="fold")
        for heading, cell in zip(headings[texts:], row[texts:], strict=True):
            console.print(Text(f"  {heading:<{widest}}  {cell}"), overflow="fold")


def _in_one_line(headings: Sequence[str]) -> list[str]:
    return [heading.replace("\n", " ") for heading in headings]


def _least_width(headings: Sequence[str], cells: Sequence[Sequence[str]], texts: int) -> int:
    """What a table takes whose text is folded and whose numbers are not."""
    width = len(headings) - 1
    for column, heading in enumerate(headings):
        widths = [*map(len, heading.split("\n")), *(len(row[column]) for row in cells)]
        width += max(widths) if column >= texts else min(_LEAST_TEXT, max(widths))
    return width
