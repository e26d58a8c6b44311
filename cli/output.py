"""Standard output that cannot be written, and the wish for no escape sequences; loads nothing, for `clew --help`."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

# A device that is full, or broken, or gone; a file that is larger than it may be.
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.ENXIO})


def plain() -> bool:
    """Whether NO_COLOR is set, and not empty (no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


@contextmanager
def written_output() -> Iterator[None]:
    """Write out what the body printed; an output that takes no more is said in a line, exit status 1.

    A pipe that closes early is no error.
    """
    if sys.stdout is None:
        # Closed before the start (`>&-`), so that nobody wants it.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _abandon()
        sys.exit(0)
    except SystemExit as end:
        # What typer and rich make of it.
        if isinstance(end.__context__, BrokenPipeError):
            _abandon()
            sys.exit(0)
        raise
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            # Not of the output: a fault of ours.
            raise
        _abandon()
        sys.stderr.write(f"{_command()}: output cannot be written: {error.strerror or error}\n")
        sys.exit(1)


def _abandon() -> None:
    """Let what waits go nowhere, so that it is not tried again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _command() -> str:
    """What was called, without options and values: `clew topic read`."""
    # Loaded at the failure only: this module is loaded by the main one.
    import typer  # noqa: PLC0415

    from cli.main import app  # noqa: PLC0415

    return " ".join(["clew", *_words(typer.main.get_command(app), sys.argv[1:])])


def _words(command: Any, arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument)
        if command is None:
            return
        yield argument
