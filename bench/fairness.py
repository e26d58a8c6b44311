"""`python -m bench.fairness`: what a quiet source notices of a noisy one, on a running mesh.

First the mesh's capacity is measured with a closed loop. Then, round after round, a quiet source sends single events at
random moments: alone, beside a noisy source that keeps its rate (a quarter of the capacity), beside one that sends
three times its rate, and beside one without any rate that sends three times the capacity. Latency counts from the
moment at which a request should have left; only the quiet source's matters, with the answers of both by status.

Everything shares one machine, the load generators with it: what they take to send, the quiet source waits for too, and
no gateway can help that. So there is a scene to compare with, in which the noisy source keeps its rate and the rest of
the three times goes to a bare HTTP server (`bench/limits/http.py`), which answers at once.
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
from functools import partial
from pathlib import Path
from typing import Any

from bench.systems import ROOT, started
from cli.layout import WORKSPACE, Layout, write_private

NOISY_SHARE = 0.25
OVERLOAD = 3
_CONNECTIONS = 64
_NOISY_CONNECTIONS = 256
"""Refusals are told late and hold their connections: with fewer, the noisy source could not send what it is to send."""
_QUIET_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Mesh:
    """Where a running mesh takes events, its sources' write keys by name, and where a bare HTTP server listens."""

    http: str
    keys: dict[str, str]
    bare: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Who sends beside the quiet source, events a second, and what goes to the bare server meanwhile."""

    name: str
    noisy: str = ""
    rate: float = 0.0
    aside: float = 0.0


@contextmanager
def running_mesh(noisy_rate: float) -> Iterator[Mesh]:
    """A mesh with three more sources: quiet, noisy with a rate (0: none), and greedy without one."""
    with tempfile.TemporaryDirectory(prefix="clew-fairness-") as folder:
        layout = Layout(Path(folder))
        layout.prepare()
        keys = {name: secrets.token_hex(24) for name in ("quiet", "noisy", "greedy")}
        entries: list[dict[str, object]] = [
            {"workspace": WORKSPACE, "name": name, "write_key_sha256": hashlib.sha256(key.encode()).hexdigest()}
            for name, key in keys.items()
        ]
        if noisy_rate:
            entries[1]["limits"] = {"events_per_second": noisy_rate, "burst": max(1, round(noisy_rate / 2))}
        write_private(layout.sources, json.loads(layout.sources.read_text()) + entries)
        command = ["-m", "cli", "up", "--json", "--http-port", "0", "--data-dir", folder]
        with started(command, {}) as (_, endpoints), started(["-m", "bench.limits.http"], {}) as (_, bare):
            yield Mesh(str(endpoints["http"]), keys, f"http://127.0.0.1:{bare['port']}")


def load(url: str, key: str, *, rate: float, connections: int, seconds: float) -> subprocess.Popen[str]:
    """Start a load generator; a rate of 0 is a closed loop."""
    command = [sys.executable, "-m", "bench.load", "--url", url, "--write-key", key]
    command += ["--connections", str(connections), "--rate", str(rate), "--warmup", "2", "--duration", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a generator measured."""
    output = process.communicate(timeout=180)[0]
    found: dict[str, Any] = json.loads(output)
    return found


def play(mesh: Mesh, scene: Scene, quiet_rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """One scene: what the quiet source and the other one saw."""
    # The others send a second longer on either side, so that the quiet source never sends without them.
    beside = partial(load, connections=_NOISY_CONNECTIONS, seconds=seconds + 2)
    noisy = beside(mesh.http, mesh.keys[scene.noisy], rate=scene.rate) if scene.rate else None
    aside = beside(mesh.bare, "none", rate=scene.aside) if scene.aside else None
    quiet = result(
        load(mesh.http, mesh.keys["quiet"], rate=quiet_rate, connections=_QUIET_CONNECTIONS, seconds=seconds)
    )
    if aside:
        result(aside)
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


def rise(rounds: list[tuple[dict[str, Any], dict[str, Any]]], base: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """By how much the quiet source's p99 is above another scene's: of the rounds' own ratios the median, and all."""
    ratios = [after["p99_ms"] / before["p99_ms"] for (after, _), (before, _) in zip(rounds, base, strict=True)]
    each = ", ".join(f"{ratio - 1:+.0%}" for ratio in ratios)
    return f"{statistics.median(ratios) - 1:+.0%} ({each})"


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(prog="bench.fairness", description="What a quiet source notices of a noisy one.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all scenes")
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds that each scene lasts")
    parser.add_argument("--quiet-rate", type=float, default=100.0, help="events a second of the quiet source")
    options = parser.parse_args()
    with running_mesh(0) as mesh:
        closed = result(load(mesh.http, mesh.keys["greedy"], rate=0, connections=_CONNECTIONS, seconds=4))
    capacity: float = closed["events_per_second"]
    rate = max(10.0, round(capacity * NOISY_SHARE))
    kept, excess = rate * 0.9, rate * (OVERLOAD - 0.9)
    alone = Scene("nobody")
    calm = Scene(f"a noisy one at its rate, {rate:,.0f}/s", "noisy", kept)
    control = Scene("the same, and the rest of three times goes to a bare server", "noisy", kept, excess)
    overload = Scene(f"at {OVERLOAD} times its rate", "noisy", rate * OVERLOAD)
    greedy = Scene(f"without a rate, at {OVERLOAD} times the capacity", "greedy", capacity * OVERLOAD)
    scenes = (alone, calm, control, overload, greedy)
    seen: dict[Scene, list[tuple[dict[str, Any], dict[str, Any]]]] = {scene: [] for scene in scenes}
    with running_mesh(rate) as mesh:
        for number in range(options.rounds):
            for scene in scenes:
                sys.stderr.write(f"round {number + 1}/{options.rounds}: {scene.name}\n")
                seen[scene].append(play(mesh, scene, options.quiet_rate, options.seconds))
    print(f"capacity, single events, {_CONNECTIONS} connections: {capacity:,.0f} events/s\n")
    print("| beside the quiet source | its p50 ms | its p99 ms | its refusals | the other's accepted | its refusals |")
    print("|---|---:|---:|---|---:|---|")
    for scene in scenes:
        print(row(scene, seen[scene]))
    print(f"\np99 at {OVERLOAD} times the rate, over the noisy source at its rate: {rise(seen[overload], seen[calm])}")
    print(f"and over that with the rest sent to a bare server: {rise(seen[overload], seen[control])}")


if __name__ == "__main__":
    main()
