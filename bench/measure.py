"""One measurement: a system under a workload for some seconds, watched from outside."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.cpu import calibrate, cpu_seconds, pss_mib
from bench.systems import ROOT, System
from bench.workloads import Workload

# The speed of the machine before and after differs by more than this: the measurement is marked.
_UNSTEADY: Final = 1.25
# A load that has not ended so long after its time will not.
_LATE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Subject:
    """A running system on one kind of broker."""

    system: System
    broker: str
    broker_pid: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was seen. `share` 0 is a closed loop; else that part of the capacity, in an open loop.

    CPU is in microseconds an event and memory in MiB (proportional set size) after the load, both by process; the
    broker's CPU stands beside them, for it is no part of the system.
    """

    system: str
    broker: str
    workload: str
    share: float
    requests: int
    events_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us: dict[str, float]
    broker_cpu_us: float
    pss_mib: dict[str, float]
    generator_cpu_us: float
    errors: dict[str, int]
    steady: bool

    @property
    def total_cpu_us(self) -> float:
        """All processes of the system together."""
        return sum(self.cpu_us.values())


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that count, and seconds before that do not."""

    seconds: float
    warmup: float


def measure(
    subject: Subject, workload: Workload, timing: Timing, *, share: float = 0.0, rate: float = 0.0
) -> Measurement:
    """Load a system once, from a process of its own; `rate` in requests a second is an open loop.

    Raises:
        RuntimeError: The load failed.
    """
    before = calibrate()
    command = [*load_command(subject.system, workload, timing, rate), "--marks"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as load,
        _killed_when_late(load, timing),
    ):
        pids = subject.system.pids or {"producer": load.pid}
        watched = {**pids, **({"": subject.broker_pid} if subject.broker_pid else {})}
        _await_mark(load, "begin")
        started, clock = {name: cpu_seconds(pid) for name, pid in watched.items()}, time.perf_counter()
        _await_mark(load, "end")
        used = {name: cpu_seconds(pid) - started[name] for name, pid in watched.items()}
        window = time.perf_counter() - clock
        memory = {name: pss_mib(pid) for name, pid in pids.items()}
        output = load.communicate()[0]
    if load.returncode:
        raise RuntimeError(f"the load of {subject.system.name} did not end in time, or failed")
    result: dict[str, Any] = json.loads(output)
    events = result["events_per_second"]
    cost = {name: seconds / window / events * 1e6 if events else 0.0 for name, seconds in used.items()}
    after = calibrate()
    return Measurement(
        system=subject.system.name,
        broker=subject.broker,
        workload=workload.key,
        share=share,
        requests=result["requests"],
        events_per_second=events,
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        p999_ms=result["p999_ms"],
        broker_cpu_us=cost.pop("", 0.0),
        cpu_us=cost,
        pss_mib=memory,
        generator_cpu_us=result["generator_cpu_seconds"] / (timing.seconds + timing.warmup) / max(events, 1.0) * 1e6,
        errors=result["errors"],
        steady=max(before, after) / min(before, after) < _UNSTEADY,
    )


@contextmanager
def _killed_when_late(load: subprocess.Popen[str], timing: Timing) -> Iterator[None]:
    """End a load that does not end by itself."""
    watchdog = threading.Timer(timing.warmup + timing.seconds + _LATE_SECONDS, load.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _await_mark(load: subprocess.Popen[str], word: str) -> None:
    """Wait until the load says so.

    Raises:
        RuntimeError: It ended before.
    """
    assert load.stdout is not None
    if load.stdout.readline().strip() != word:
        raise RuntimeError("the load ended before its time; what it said stands above")


def load_command(system: System, workload: Workload, timing: Timing, rate: float = 0.0) -> list[str]:
    """What loads a system; `rate` in requests a second is an open loop."""
    command = [sys.executable, *system.load, "--batch", str(workload.batch)]
    command += ["--connections", str(workload.connections), "--rate", f"{rate:.3f}"]
    return [*command, "--warmup", str(timing.warmup), "--duration", str(timing.seconds)]
