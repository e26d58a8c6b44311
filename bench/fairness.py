"""`python -m bench.fairness`: what a quiet source notices of a noisy one, on a running mesh.

First the mesh's capacity is measured with a closed loop. Then, round after round, a quiet source sends single events at
random moments: alone, beside a noisy source that keeps its rate (a quarter of the capacity), beside one that sends
three times its rate, and beside one without any rate that sends three times the capacity. Latency counts from the
moment at which a request should have left; only the quiet source's matters, with the answers of both by status.

Everything shares one machine, the load generators with it: where the noisy source takes all cores, the quiet one waits
for them too. The second and third rows differ by what is refused, and so show what the limiter is for.
"""

import argparse
import hashlib
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.systems import ROOT, started
from cli.layout import WORKSPACE, Layout, write_private

NOISY_SHARE = 0.25
OVERLOAD = 3
_CONNECTIONS = 64
_QUIET_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Mesh:
    """Where a running mesh takes events, and its sources' write keys by name."""

    http: str
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who sends beside the quiet source, events a second."""

    name: str
    noisy: str
    rate: float


@contextmanager
def running_mesh(noisy_rate: float) -> Iterator[Mesh]:
    """A mesh with three more sources: quiet, noisy with a rate (0: none), and greedy without one."""
    with tempfile.TemporaryDirectory(prefix="clew-fairness-") as folder:
        layout = Layout(Path(folder))
        layout.prepare()
        keys = {name: secrets.token_urlsafe(24) for name in ("quiet", "noisy", "greedy")}
        entries: list[dict[str, object]] = [
            {"workspace": WORKSPACE, "name": name, "write_key_sha256": hashlib.sha256(key.encode()).hexdigest()}
            for name, key in keys.items()
        ]
        if noisy_rate:
            entries[1]["limits"] = {"events_per_second": noisy_rate, "burst": max(1, round(noisy_rate / 2))}
        write_private(layout.sources, json.loads(layout.sources.read_text()) + entries)
        command = ["-m", "cli", "up", "--json", "--http-port", "0", "--data-dir", folder]
        with started(command, {}) as (_, endpoints):
            yield Mesh(str(endpoints["http"]), keys)


def load(mesh: Mesh, source: str, *, rate: float, connections: int, seconds: float) -> subprocess.Popen[str]:
    """Start a load generator; a rate of 0 is a closed loop."""
    command = [sys.executable, "-m", "bench.load", "--url", mesh.http, "--write-key", mesh.keys[source]]
    command += ["--connections", str(connections), "--rate", str(rate), "--warmup", "2", "--duration", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a generator measured."""
    output = process.communicate(timeout=180)[0]
    found: dict[str, Any] = json.loads(output)
    return found


def play(mesh: Mesh, scene: Scene, quiet_rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """One scene: what the quiet source and the other one saw."""
    noisy = None
    if scene.rate:
        # A second longer on either side, so that the quiet source never sends without it.
        noisy = load(mesh, scene.noisy, rate=scene.rate, connections=_CONNECTIONS, seconds=seconds + 2)
    quiet = result(load(mesh, "quiet", rate=quiet_rate, connections=_QUIET_CONNECTIONS, seconds=seconds))
    return quiet, result(noisy) if noisy else {"requests": 0, "errors": {}}


def row(scene: Scene, rounds: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """One line of the report: medians of the latencies over the rounds, sums of what was accepted and refused."""
    p50, p99 = (statistics.median(quiet[key] for quiet, _ in rounds) for key in ("p50_ms", "p99_ms"))
    refused = [_refusals([pair[side] for pair in rounds]) for side in (0, 1)]
    accepted = sum(noisy["requests"] for _, noisy in rounds)
    return f"| {scene.name} | {p50:.1f} | {p99:.1f} | {refused[0]} | {accepted:,} | {refused[1]} |"


def _refusals(results: list[dict[str, Any]]) -> str:
    total: dict[str, int] = {}
    for each in results:
        for status, number in each["errors"].items():
            total[status] = total.get(status, 0) + number
    return ", ".join(f"{number:,} x {status}" for status, number in sorted(total.items())) or "none"


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(prog="bench.fairness", description="What a quiet source notices of a noisy one.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all scenes")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds that each scene lasts")
    parser.add_argument("--quiet-rate", type=float, default=50.0, help="events a second of the quiet source")
    options = parser.parse_args()
    with running_mesh(0) as mesh:
        closed = result(load(mesh, "greedy", rate=0, connections=_CONNECTIONS, seconds=4))
    capacity: float = closed["events_per_second"]
    rate = max(10.0, round(capacity * NOISY_SHARE))
    scenes = (
        Scene("alone", "", 0),
        Scene(f"a noisy one at its rate, {rate:,.0f}/s", "noisy", rate * 0.9),
        Scene(f"at {OVERLOAD} times its rate", "noisy", rate * OVERLOAD),
        Scene(f"without a rate, at {OVERLOAD} times the capacity", "greedy", capacity * OVERLOAD),
    )
    seen: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {scene.name: [] for scene in scenes}
    with running_mesh(rate) as mesh:
        for number in range(options.rounds):
            for scene in scenes:
                sys.stderr.write(f"round {number + 1}/{options.rounds}: {scene.name}\n")
                seen[scene.name].append(play(mesh, scene, options.quiet_rate, options.seconds))
    print(f"capacity, single events, {_CONNECTIONS} connections: {capacity:,.0f} events/s\n")
    print("| beside the quiet source | its p50 ms | its p99 ms | its refusals | the other's accepted | its refusals |")
    print("|---|---:|---:|---|---:|---|")
    for scene in scenes:
        print(row(scene, seen[scene.name]))


if __name__ == "__main__":
    main()
