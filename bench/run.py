"""`make bench`: clew beside a typical service, end to end over HTTP, in one interleaved run.

Systems take turns on every workload, several rounds long; the report shows medians over the rounds and medians of the
ratios within each round, since the speed of a shared machine changes from minute to minute. A fixed calibration loop
runs before and after each measurement; the report says how often it moved by more than a quarter.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cpu import calibrate, cpu_seconds
from bench.systems import ROOT, SYSTEMS, System, running_systems

_BASELINE = "typical"
_UNSTEADY = 1.25


@dataclass(frozen=True, slots=True)
class Workload:
    """What the clients send: `batch` 0 means single events."""

    name: str
    batch: int
    connections: int


WORKLOADS = (
    Workload("single events, 64 connections", 0, 64),
    Workload("single events, 256 connections", 0, 256),
    Workload("batches of 100, 16 connections", 100, 16),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One system under one workload in one round. CPU in microseconds an event, by process."""

    system: str
    workload: str
    events_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    errors: dict[str, int]
    steady: bool

    @property
    def total_cpu_us(self) -> float:
        """All processes of the system together."""
        return sum(self.cpu_us.values())


def measure(system: System, workload: Workload, *, seconds: float, warmup: float) -> Measurement:
    """Load one system once, from a process of its own."""
    command = [sys.executable, "-m", "bench.load", "--url", system.http, "--write-key", system.write_key]
    command += ["--batch", str(workload.batch), "--connections", str(workload.connections)]
    command += ["--warmup", str(warmup), "--duration", str(seconds)]
    before = calibrate()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as load:
        # The generator needs a moment to start; CPU is read over a window within its load.
        time.sleep(warmup + 0.5)
        started, clock = {name: cpu_seconds(pid) for name, pid in system.pids.items()}, time.perf_counter()
        time.sleep(max(0.5, seconds - 1))
        used = {name: cpu_seconds(pid) - started[name] for name, pid in system.pids.items()}
        window = time.perf_counter() - clock
        output = load.communicate(timeout=seconds + 60)[0]
    result: dict[str, Any] = json.loads(output)
    rate = result["events_per_second"]
    after = calibrate()
    return Measurement(
        system.name,
        workload.name,
        rate,
        result["p50_ms"],
        result["p99_ms"],
        {name: value / window / rate * 1e6 if rate else 0.0 for name, value in used.items()},
        result["errors"],
        max(before, after) / min(before, after) < _UNSTEADY,
    )


def run(systems: list[System], options: argparse.Namespace) -> list[list[Measurement]]:
    """All rounds; within one, every system in turn under every workload."""
    rounds: list[list[Measurement]] = []
    for number in range(options.rounds):
        found: list[Measurement] = []
        for workload in WORKLOADS:
            for system in systems[number % len(systems) :] + systems[: number % len(systems)]:
                sys.stderr.write(f"round {number + 1}/{options.rounds}: {workload.name}: {system.name}\n")
                found.append(measure(system, workload, seconds=options.seconds, warmup=options.warmup))
        rounds.append(found)
    return rounds


def report(rounds: list[list[Measurement]], names: tuple[str, ...]) -> str:
    """Medians, and medians of the ratios to the baseline within each round, as Markdown."""
    lines: list[str] = []
    for workload in WORKLOADS:
        lines += ["", f"### {workload.name}", ""]
        lines += ["| system | events/s | x typical | CPU us/event | by process | p50 ms | p99 ms | errors |"]
        lines += ["|---|---:|---:|---:|---|---:|---:|---:|"]
        lines += [_row(rounds, workload.name, name) for name in names]
    unsteady = sum(not each.steady for found in rounds for each in found)
    lines += [
        "",
        f"{len(rounds)} rounds; the machine's speed moved during {unsteady} of {sum(map(len, rounds))} measurements.",
    ]
    return "\n".join(lines)


def _row(rounds: list[list[Measurement]], workload: str, name: str) -> str:
    by_round = [{each.system: each for each in found if each.workload == workload} for found in rounds]
    own = [found[name] for found in by_round]
    median = statistics.median
    ratio = "-"
    if all(_BASELINE in found for found in by_round):
        ratios = [found[name].events_per_second / max(found[_BASELINE].events_per_second, 0.1) for found in by_round]
        ratio = f"{median(ratios):.1f}"
    by_process = ", ".join(
        f"{process} {median([each.cpu_us[process] for each in own]):,.0f}" for process in own[0].cpu_us
    )
    return (
        f"| {name} | {median([each.events_per_second for each in own]):,.0f} | {ratio} "
        f"| {median([each.total_cpu_us for each in own]):,.0f} | {by_process} "
        f"| {median([each.p50_ms for each in own]):.1f} | {median([each.p99_ms for each in own]):.1f} "
        f"| {sum(sum(each.errors.values()) for each in own)} |"
    )


def main() -> None:
    """Read the command line, measure, print the report."""
    parser = argparse.ArgumentParser(prog="bench.run", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all measurements")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds that each measurement lasts")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds before each that do not count")
    parser.add_argument("--kafka", default="", metavar="HOST:PORT", help="a real Kafka for all; empty: embedded ones")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), help="which to measure")
    parser.add_argument("--json", type=Path, help="write every measurement to this file as well")
    options = parser.parse_args()
    names = tuple(options.systems)
    with running_systems(names, options.kafka) as systems:
        rounds = run(systems, options)
    if options.json:
        rows = [{field: getattr(each, field) for field in each.__slots__} for found in rounds for each in found]
        options.json.write_text(json.dumps(rows, indent=1))
    print(report(rounds, names))


if __name__ == "__main__":
    main()
