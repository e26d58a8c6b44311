"""What a process takes, looked at from outside, and whether it takes more and more: pure but for /proc."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple

_KIB: Final = 1024
# A process may gain so much after its warm-up, whichever is more: caches that fill, a heap that is not handed back.
_MIB: Final = 16.0
_SHARE: Final = 0.1
# Connections and executor threads come and go.
_COUNT: Final = 8
# The median of all slopes between pairs of points: some thousand pairs say as much as all.
_MOST_POINTS: Final = 120


class Sample(NamedTuple):
    """A process at one moment: seconds since the start, resident MiB, descriptors, threads, tasks."""

    seconds: float
    mib: float
    descriptors: int
    threads: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Trend:
    """How a process went after its warm-up.

    Attributes:
        begin_mib, end_mib: Resident memory in the first and the last tenth of the time, medians.
        growth_mib: By the Theil-Sen slope, over the whole of that time. It stands up to outliers: a pass of the garbage
            collector, a peak.
        descriptors, threads, tasks: The fewest in the first and in the last third: what is under way comes and
            goes, what has leaked stays.
    """

    begin_mib: float
    end_mib: float
    growth_mib: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    tasks: tuple[int, int]

    def problems(self) -> list[str]:
        """What grows without being asked to; empty when nothing does."""
        found = []
        if self.growth_mib > max(_MIB, _SHARE * self.begin_mib):
            found.append(f"memory grew by {self.growth_mib:.0f} MiB")
        for name, (first, last) in (
            ("descriptors", self.descriptors),
            ("threads", self.threads),
            ("tasks", self.tasks),
        ):
            if last > first + max(_COUNT, _SHARE * first):
                found.append(f"{name} grew from {first} to {last}")
        return found


def look(pid: int, seconds: float, tasks: int) -> Sample:
    """A process now; `tasks` is what it says itself.

    Raises:
        OSError: It has ended, or is not ours to look at.
    """
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if ":" in line
    )
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Sample(seconds, int(status["VmRSS"].split()[0]) / _KIB, descriptors, int(status["Threads"]), tasks)


def trend(samples: Sequence[Sample], warm_up: float) -> Trend:
    """Judge what was seen after so many seconds of warm-up; of at least three samples."""
    steady = [sample for sample in samples if sample.seconds >= warm_up]
    tenth = max(1, len(steady) // 10)
    memory = [(sample.seconds, sample.mib) for sample in steady]
    return Trend(
        begin_mib=statistics.median(mib for _, mib in memory[:tenth]),
        end_mib=statistics.median(mib for _, mib in memory[-tenth:]),
        growth_mib=slope(memory) * (memory[-1][0] - memory[0][0]),
        descriptors=_thirds([sample.descriptors for sample in steady]),
        threads=_thirds([sample.threads for sample in steady]),
        tasks=_thirds([sample.tasks for sample in steady]),
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The Theil-Sen slope: the median of the slopes between all pairs of points, of which there are at least two."""
    step = -(-len(points) // _MOST_POINTS)
    return statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in combinations(points[::step], 2)
        if later[0] > earlier[0]
    )


def _thirds(values: Sequence[int]) -> tuple[int, int]:
    third = max(1, len(values) // 3)
    return min(values[:third]), min(values[-third:])
