"""What is measured: clew and the typical service, each with a broker of its own, started as their users start them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cpu import children
from mesh.bus.embedded import start_embedded

ROOT = Path(__file__).resolve().parents[1]
_STOP_SECONDS = 30
_ALL_TRACES = {"OTEL_TRACES_SAMPLER": "always_on"}
_NO_TRACES = {"OTEL_TRACES_SAMPLER": "always_off"}


@dataclass(frozen=True, slots=True)
class System:
    """A running system: where it takes events, and its processes by name (the broker is not one of them)."""

    name: str
    http: str
    write_key: str
    pids: dict[str, int]


@contextmanager
def running_systems(names: tuple[str, ...], kafka: str) -> Iterator[list[System]]:
    """Start the named systems; `kafka` empty: each gets an embedded broker."""
    with ExitStack() as stack:
        yield [stack.enter_context(SYSTEMS[name](name, kafka)) for name in names]


@contextmanager
def _clew(name: str, kafka: str, env: Mapping[str, str]) -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as folder:
        command = [sys.executable, "-m", "cli", "up", "--json", "--http-port", "0", "--data-dir", folder]
        with started([*command, *(["--kafka", kafka] if kafka else [])], env) as (process, endpoints):
            found = children(process.pid)
            pids = {module.removesuffix("_svc"): pid for module, pid in found.items() if not module.startswith("mesh")}
            yield System(name, str(endpoints["http"]), str(endpoints["write_key"]), pids)


@contextmanager
def _typical(name: str, kafka: str, env: Mapping[str, str]) -> Iterator[System]:
    with ExitStack() as stack:
        if not kafka:
            broker, kafka = start_embedded()
            stack.callback(broker.wait)
            stack.callback(broker.terminate)
        command = [sys.executable, "-m", "bench.typical", "--kafka", kafka, "--topic", f"{name}.events.v1"]
        _, endpoints = stack.enter_context(started(command, env))
        pids = endpoints["pids"]
        assert isinstance(pids, dict)
        yield System(name, str(endpoints["http"]), str(endpoints["write_key"]), pids)


@contextmanager
def started(command: list[str], env: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """Start a process that says where it serves in its first line, as JSON; it is terminated at the end."""
    environ = {**os.environ, **env, "PYTHONPATH": f"{ROOT / 'gen'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command[1:4])} did not start")
        yield process, json.loads(line)
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


SYSTEMS = {
    "clew": lambda name, kafka: _clew(name, kafka, {}),
    "clew, every request traced": lambda name, kafka: _clew(name, kafka, _ALL_TRACES),
    "typical": lambda name, kafka: _typical(name, kafka, _ALL_TRACES),
    "typical, untraced": lambda name, kafka: _typical(name, kafka, _NO_TRACES),
}
"""Every system by the name that the report shows."""
