"""What each stage of clew's gateway costs an event: its samples under load, as a table and as a flame graph."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.flame import Stacks, by_stage, sample, svg
from bench.measure import Measurement, Subject, Timing, load_command
from bench.systems import ROOT
from bench.workloads import Workload

PROCESS: Final = "gateway"
_MARGIN_SECONDS: Final = 2.0


def sample_gateway(subject: Subject, workload: Workload, seconds: float) -> Stacks:
    """Load clew and look at its gateway meanwhile.

    Raises:
        NoSampler: This system does not let it be looked at.
    """
    timing = Timing(seconds + _MARGIN_SECONDS, warmup=1.0)
    with subprocess.Popen(load_command(subject.system, workload, timing), stdout=subprocess.DEVNULL, cwd=ROOT) as load:
        try:
            time.sleep(timing.warmup + 0.5)
            return sample(subject.system.pids[PROCESS], seconds)
        finally:
            load.terminate()


def stages_report(stacks: Stacks, workload: Workload, measured: Sequence[Measurement]) -> str:
    """As Markdown: each stage's share, and what that is of the CPU that was measured without looking."""
    cost = next(
        (each.cpu_us[PROCESS] for each in measured if each.workload == workload.key and PROCESS in each.cpu_us), 0.0
    )
    lines = [
        f"### Where the gateway's time goes: {workload.name}",
        "",
        "| stage | share | us/event |",
        "|---|---:|---:|",
    ]
    lines += [f"| {stage} | {share:.0%} | {share * cost:,.1f} |" for stage, share in by_stage(stacks).items()]
    return "\n".join(lines)


def write_flame(path: Path, stacks: Stacks, workload: Workload) -> None:
    """Write the flame graph."""
    path.write_text(svg(stacks, f"clew's gateway, {workload.name}: {sum(stacks.values())} samples"), "utf-8")
