"""`clew doctor`: what is installed, what is reachable, what is misconfigured, and what to do about each."""

import asyncio
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from cli.endpoints import Endpoints, NotRunning
from cli.health import is_serving, kafka_problem
from cli.layout import Layout
from cli.up import read_stats

State = Literal["ok", "note", "bad"]
_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}
_PACKAGES = ("grpcio", "protobuf", "confluent-kafka", "opentelemetry-sdk", "pyjwt", "protovalidate", "uvloop")
_SECONDS = 2.0
_LEAST_FREE_MIB = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` says what to do where it is not fine."""

    what: str
    state: State
    found: str
    advice: str = ""


def doctor(data_dir: Path) -> int:
    """Print all findings; exit status 1 when one of them is bad."""
    findings = [*_installed(), *_tools(), *_data(data_dir), *_running(data_dir)]
    table = Table(box=None, pad_edge=False)
    for heading in ("", "what", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        colour = _COLOURS[finding.state]
        table.add_row(f"[{colour}]{finding.state}[/{colour}]", finding.what, finding.found, finding.advice)
    Console().print(table)
    return 1 if any(finding.state == "bad" for finding in findings) else 0


def _judge(what: str, found: str, advice: str, *, fine: bool, otherwise: State = "bad") -> Finding:
    return Finding(what, "ok" if fine else otherwise, found, "" if fine else advice)


def _installed() -> Iterator[Finding]:
    supported = sys.version_info >= (3, 11)
    yield _judge("Python", platform.python_version(), "install Python 3.11 or newer", fine=supported)
    for package in _PACKAGES:
        try:
            yield Finding(package, "ok", importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "bad", "not installed", "run `make setup`")


def _tools() -> Iterator[Finding]:
    """Programs that single commands need; their absence is no fault."""
    for tool, needed_for in (("java", "make kafka"), ("mvn", "make kafka"), ("node", "tests with the JavaScript SDKs")):
        path = shutil.which(tool)
        yield _judge(tool, path or "not found", f"only needed for {needed_for}", fine=bool(path), otherwise="note")


def _data(data_dir: Path) -> Iterator[Finding]:
    layout = Layout(data_dir)
    if not data_dir.exists():
        yield Finding("data directory", "note", f"{data_dir} does not exist", "`clew up` makes it")
        return
    if not data_dir.is_dir():
        yield Finding("data directory", "bad", f"{data_dir} is no directory", "name another --data-dir")
        return
    usable = os.access(data_dir, os.R_OK | os.W_OK | os.X_OK)
    yield _judge("data directory", str(data_dir), "let this user read, write and enter it", fine=usable)
    free = shutil.disk_usage(data_dir).free >> 20
    yield _judge("free disk", f"{free:,} MiB", "free some space", fine=free > _LEAST_FREE_MIB)
    if layout.secrets.exists():
        private = layout.secrets.stat().st_mode & 0o077 == 0
        found = "private" if private else "readable by others"
        yield _judge("secrets", found, f"chmod 600 {layout.secrets}", fine=private)


def _running(data_dir: Path) -> Iterator[Finding]:
    try:
        endpoints = Endpoints.read(data_dir)
    except NotRunning as error:
        yield Finding("mesh", "note", "not running", str(error))
        return
    logs = Layout(data_dir).logs
    for name, target in endpoints.grpc.items():
        serving = asyncio.run(is_serving(target, _SECONDS))
        yield _judge(name, target if serving else f"{target} does not serve", f"see {logs}/{name}.log", fine=serving)
    stats = read_stats({"http": endpoints.http, "admin_token": endpoints.admin_token})
    found = f"{endpoints.http}, {stats['received']} events" if stats else f"{endpoints.http} does not answer"
    yield _judge("HTTP edge", found, f"see {logs}/gateway.log", fine=bool(stats))
    yield _broker(endpoints.kafka)


def _broker(bootstrap: str) -> Finding:
    problem = kafka_problem(bootstrap, _SECONDS)
    return _judge(
        "Kafka", problem or bootstrap, "start the broker, or `clew up` with another --kafka", fine=not problem
    )
