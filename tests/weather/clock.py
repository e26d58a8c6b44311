"""A process's own clock, which can be turned while it runs: libfaketime, which answers for the C library.

Only the wall clock jumps. The monotonic clock is nobody's to turn, on a real machine either.
"""

from pathlib import Path
from typing import Final

RIGHT: Final = "+0"
OWN: Final = {"LD_PRELOAD": ""}
"""What a process is started with to have the machine's clock again."""
_LIBRARY: Final = "faketime/libfaketimeMT.so.1"
_FOLDERS: Final = (Path("/usr/lib"), Path("/usr/local/lib"), Path("/lib"))


class FaketimeMissing(Exception):
    """The machine has no libfaketime."""


def library() -> Path:
    """Where libfaketime is.

    Raises:
        FaketimeMissing: Nowhere.
    """
    for folder in _FOLDERS:
        for place in (folder / _LIBRARY, *folder.glob(f"*/{_LIBRARY}")):
            if place.exists():
                return place
    raise FaketimeMissing("no libfaketime found: install it (Debian and Ubuntu: apt-get install faketime)")


def environment(folder: Path) -> dict[str, str]:
    """What a process must be started with for its clock to follow `turn`."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(_file(folder)),
        # Looked at every time: a jump is there at once.
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def turn(folder: Path, offset: str) -> None:
    """Turn the clock to an offset from the right time, as libfaketime reads it: `+45m`, `-2h`."""
    file = _file(folder)
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(f"{offset}\n", "utf-8")
    fresh.replace(file)


def _file(folder: Path) -> Path:
    return folder / "clock"
