"""CPU time and memory of other processes, and how fast this machine is at the moment."""

import time
from pathlib import Path

_NANOS = 1e9


def cpu_seconds(pid: int) -> float:
    """CPU time that the living threads of a process have used, in seconds (schedstat counts nanoseconds, not ticks)."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            # A thread that ended between the listing and the reading.
            continue
    return total / _NANOS


def pss_mib(pid: int) -> float:
    """Memory of a process in MiB, what it shares divided among those that share it (proportional set size)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")
    return int(text.partition("Pss:")[2].split()[0]) / 1024


def calibrate(loops: int = 200_000) -> float:
    """Seconds that a fixed piece of work takes now: hosts switch between a fast and a slow mode, and this shows it."""
    started = time.perf_counter()
    value = 0
    for number in range(loops):
        value = (value * 31 + number) & 0xFFFFFFFF
    return time.perf_counter() - started


def children(pid: int) -> dict[str, int]:
    """The direct children of a process that run `python -m NAME`, by name."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and "-m" in command:
            found[command[command.index("-m") + 1]] = int(entry.name)
    return found
