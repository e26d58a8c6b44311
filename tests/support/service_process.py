"""A service as a process of its own, as a supervisor starts it: `python -m MODULE`, configured by its environment."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

ROOT = Path(__file__).parents[2]


@contextmanager
def started(module: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start the process; it is killed at the end if it still runs."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'gen'}:{ROOT}", **settings}
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving(module: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], grpc.Channel]]:
    """Start the process and connect to it."""
    with (
        started(module, **settings) as process,
        grpc.insecure_channel(f"127.0.0.1:{port_of(process)}") as channel,
    ):
        yield process, channel


def port_of(process: subprocess.Popen[str]) -> int:
    """The port that the process says it serves on."""
    assert process.stderr is not None
    for line in process.stderr:
        entry = json.loads(line)
        if entry["event"] == "serving":
            return int(entry["port"])
    raise AssertionError("the process ended before it served")
