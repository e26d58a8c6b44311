"""Consoles: with NO_COLOR no escape sequence leaves them, neither colours nor bold nor what moves."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console

from cli.output import plain


def console(**options: Any) -> Console:
    """A console, of standard output unless told otherwise."""
    if not plain():
        return Console(**options)
    # A terminal still: lines are folded to its width. Said here, since `main` tells other consoles that there is none.
    stream = sys.stderr if options.get("stderr") else sys.stdout
    return Console(**options, color_system=None, force_terminal=stream.isatty())


def busy(shown: Console, text: str) -> AbstractContextManager[Any]:
    """Say on a terminal what is being done while it is, by something that turns; with NO_COLOR say nothing."""
    return nullcontext() if plain() else shown.status(text)
