"""How long a start takes and what an idle mesh occupies: `python -m bench.startup`."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Final

from bench.cpu import children, pss_mib
from bench.systems import ROOT, started

HELP_SECONDS: Final = 0.3
SERVING_SECONDS: Final = 3.0
IDLE_MIB: Final = 400.0
_SETTLE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds of `clew --help` and until all are SERVING, medians; MiB of all processes when idle, by process."""

    help_seconds: float
    serving_seconds: float
    idle_mib: dict[str, float]


def measure_startup(runs: int = 5) -> Startup:
    """Start each of them so many times."""
    serving = [_until_serving() for _ in range(runs)]
    return Startup(
        statistics.median(_help() for _ in range(runs)),
        statistics.median(seconds for seconds, _ in serving),
        serving[-1][1],
    )


def _help() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cli", "--help"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - began


def _until_serving() -> tuple[float, dict[str, float]]:
    """Seconds from the start of `clew up` to its endpoints, and the memory of its processes once nothing moves."""
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as folder:
        began = time.perf_counter()
        command = ["-m", "cli", "up", "--json", "--http-port", "0", "--data-dir", folder]
        with started(command, {}) as (process, _):
            seconds = time.perf_counter() - began
            time.sleep(_SETTLE_SECONDS)
            pids = {"clew up": process.pid, **children(process.pid)}
            return seconds, {name: pss_mib(pid) for name, pid in pids.items()}


def startup_report(found: Startup) -> str:
    """As Markdown, each value beside what it may be at most."""
    total = sum(found.idle_mib.values())
    by_process = ", ".join(f"{name} {mib:.0f}" for name, mib in found.idle_mib.items())
    return "\n".join(
        [
            "| start and idle | measured | at most |",
            "|---|---:|---:|",
            f"| `clew --help`, median | {found.help_seconds * 1000:.0f} ms | {HELP_SECONDS * 1000:.0f} ms |",
            f"| `clew up` to all SERVING, median | {found.serving_seconds:.1f} s | {SERVING_SECONDS:.1f} s |",
            f"| memory of the idle mesh ({by_process}) | {total:.0f} MiB | {IDLE_MIB:.0f} MiB |",
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="starts of each")
    print(startup_report(measure_startup(parser.parse_args().runs)))


if __name__ == "__main__":
    main()
