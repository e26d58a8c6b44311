"""Tables: drawn on a terminal, plain columns for whatever reads them otherwise."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.records import printable
from cli.terminal import console as terminal


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None) -> None:
    """Print rows under headings; nothing in a cell can steer the terminal."""
    console = console or terminal()
    cells = [[printable(cell) for cell in row] for row in rows]
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in cells:
            # Not markup: a name may hold brackets.
            table.add_row(*map(Text, row))
        console.print(table)
        return
    # Not through the console, which would fold lines at 80 columns.
    lines = [list(headings), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        padded = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        console.file.write(padded.rstrip() + "\n")
