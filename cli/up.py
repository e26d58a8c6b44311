"""`clew up`: start the mesh, show how it does, drain it on the first Ctrl-C."""

import asyncio
import json
import signal
import sys
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.children import ChildFailed
from cli.health import kafka_problem
from cli.layout import BadSecrets, DirectoryInUse
from cli.output import plain
from cli.running import Mesh, MeshOptions
from cli.terminal import busy
from cli.terminal import console as terminal

_REFRESH_SECONDS = 1.0
_PLAIN_EVERY = 10
_COUNTS = ("received", "accepted", "duplicate", "rejected", "filtered", "deferred", "unanswered", "in_flight")
_MEMORY_ONLY = (
    "The embedded broker keeps events in memory only: they are gone when it stops. Use --kafka HOST:PORT to keep them."
)


def up(options: MeshOptions, *, as_json: bool) -> int:
    """Run until SIGINT or SIGTERM; the exit status is 0 after a clean drain, 1 when the mesh does not come up."""
    return asyncio.run(_run(options, as_json=as_json))


async def _run(options: MeshOptions, *, as_json: bool) -> int:
    console = terminal(stderr=True)
    notices: deque[str] = deque(maxlen=5)

    def say(text: str) -> None:
        notices.append(text)
        if not console.is_terminal or plain():
            sys.stderr.write(text + "\n")

    mesh = Mesh(options, say)
    stop = _stop_event()
    try:
        with busy(console, "starting identity, consent, enrich, gateway"):
            if not await _start_unless_stopped(mesh, stop):
                sys.stderr.write("stopped before everything had started\n")
                return 0
    except (ChildFailed, DirectoryInUse, BadSecrets) as failure:
        sys.stderr.write(f"clew up: {failure}\n")
        return 1
    except OSError as failure:
        sys.stderr.write(f"clew up: {options.data_dir} cannot be used: {failure}; name another --data-dir\n")
        return 1
    try:
        if not options.kafka:
            say(_MEMORY_ONLY)
        elif problem := await asyncio.to_thread(kafka_problem, options.kafka):
            meanwhile = "kept in the spool" if options.spool_mib else "refused with 503, and SDKs send them again"
            say(f"Kafka: {problem}; until it does, events are {meanwhile}")
        _announce(mesh, as_json=as_json)
        await _watch(mesh, stop, console, notices)
        sys.stderr.write("draining: taking no more requests, finishing those under way\n")
    finally:
        # Also when whoever reads our output has gone away: no process outlives its supervisor.
        await mesh.stop()
    sys.stderr.write("stopped\n")
    return 0


async def _start_unless_stopped(mesh: Mesh, stop: asyncio.Event) -> bool:
    """Start the mesh; a Ctrl-C meanwhile stops what has started. Whether it serves."""
    starting = asyncio.create_task(mesh.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def _announce(mesh: Mesh, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(mesh.endpoints) + "\n")
    else:
        endpoints = mesh.endpoints
        sys.stdout.write(
            f"clew serves\n  HTTP       {endpoints['http']}\n  Kafka      {endpoints['kafka']}\n"
            f"  write key  {endpoints['write_key']}\n  details    {mesh.options.data_dir / 'endpoints.json'}\n"
        )
    sys.stdout.flush()


async def _watch(mesh: Mesh, stop: asyncio.Event, console: Console, notices: deque[str]) -> None:
    if not console.is_terminal or plain():
        await _watch_plainly(mesh, stop)
        return
    last: dict[str, Any] = {}
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while not stop.is_set():
            stats = await asyncio.to_thread(read_stats, mesh.endpoints)
            live.update(_panel(mesh, stats, last, notices))
            last = stats or last
            await _pause(stop)


async def _watch_plainly(mesh: Mesh, stop: asyncio.Event) -> None:
    """One line every ten seconds in which something happened."""
    last = 0
    while not stop.is_set():
        for _ in range(_PLAIN_EVERY):
            if not stop.is_set():
                await _pause(stop)
        stats = await asyncio.to_thread(read_stats, mesh.endpoints)
        if stats and stats["received"] != last:
            last = stats["received"]
            counts = " ".join(f"{name}={stats[name]}" for name in _COUNTS)
            sys.stderr.write(f"events {counts}\n")


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), _REFRESH_SECONDS)
    except TimeoutError:
        return


def read_stats(endpoints: Mapping[str, object]) -> dict[str, Any]:
    """The gateway's counts; empty while it does not answer."""
    request = urllib.request.Request(  # noqa: S310 - our own gateway's address
        f"{endpoints['http']}/v1/admin/stats", headers={"Authorization": f"Bearer {endpoints['admin_token']}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
            stats: dict[str, Any] = json.load(answer)
            return stats
    except (urllib.error.URLError, TimeoutError, OSError, ValueError):
        return {}


def _panel(mesh: Mesh, stats: dict[str, Any], last: dict[str, Any], notices: deque[str]) -> Group:
    processes = Table(box=None, pad_edge=False)
    for heading in ("process", "pid", "restarts"):
        processes.add_column(heading)
    for child in mesh.children.values():
        state = str(child.pid) if child.pid else "[red]down[/red]"
        processes.add_row(child.name, state, str(child.restarts))
    events = Table(box=None, pad_edge=False)
    events.add_column("events")
    events.add_column("total", justify="right")
    events.add_column("per second", justify="right")
    for name in _COUNTS:
        value = stats.get(name, 0)
        rate = "" if name == "in_flight" else f"{max(0, value - last.get(name, value)) / _REFRESH_SECONDS:,.0f}"
        events.add_row(name.replace("_", " "), f"{value:,}", rate)
    address = Text(f"{mesh.endpoints['http']}   Ctrl-C drains and stops", style="bold")
    return Group(address, processes, Text(), events, *(Text(notice, style="yellow") for notice in notices))
