"""`make fuzz SECONDS=60`: fuzz each target for so long, and say how many runs it had and what it reached.

Exit status 1 when an input broke a target; it is kept under `.cache/fuzz`, with how to run it again. The corpus stays
there too, so that the next run goes on where this one ended.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import TARGETS, seeds

CACHE = Path(__file__).parents[2] / ".cache" / "fuzz"
_MOST_BYTES = 8192
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Report:
    """How a target fared: runs, runs a second, edges and features reached."""

    runs: int
    per_second: float
    edges: int
    features: int
    output: str
    failed: bool


def fuzz(target: str, seconds: int) -> Report:
    """Fuzz one target in a process of its own."""
    corpus, broken = CACHE / target / "corpus", CACHE / target / "broken"
    for folder in (corpus, broken):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-max_len={_MOST_BYTES}", "-timeout=20", f"-artifact_prefix={broken}/"]
    command = [sys.executable, "-m", "tests.fuzz.drive", target, *options, str(corpus)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode(errors="replace")
    runs, took = (int(text) for text in (_DONE.findall(output) or [("0", "0")])[-1])
    edges, features = (int(text) for text in (_COVERED.findall(output) or [("0", "0")])[-1])
    return Report(runs, runs / max(1, took), edges, features, output, done.returncode != 0)


def main() -> int:
    """Fuzz all targets, or those that are named, one after the other."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="Fuzz the edge with atheris.")
    parser.add_argument("targets", nargs="*", help="names of targets; none: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris has no wheel for this Python and machine: Linux on x86-64 with Python 3.11 to 3.13 has one")
        return 2
    failed = False
    for target in options.targets or TARGETS:
        report = fuzz(target, options.seconds)
        print(
            f"{'BROKEN' if report.failed else 'ok    '} {target:<10} {report.runs:>9} runs, {report.per_second:8.0f} a"
            f" second, {report.edges} edges, {report.features} features",
            flush=True,
        )
        if report.failed:
            failed = True
            print(report.output[-4000:])
            print(f"again: python -m tests.fuzz.drive {target} {CACHE / target / 'broken'}/FILE")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
