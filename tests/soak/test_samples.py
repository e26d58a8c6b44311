"""Does it grow? Planted leaks are found, and noise, peaks and a process that is merely large are none."""

import os
import random

import pytest

from tests.soak.samples import Sample, look, slope, trend


def _samples(*, leak_mib: float = 0.0, leak: int = 0, noise: float = 3.0) -> list[Sample]:
    """An hour, a sample every ten seconds; a leak is what has gathered at its end."""
    chance = random.Random(1)
    return [
        Sample(
            seconds=float(seconds),
            mib=100 + leak_mib * seconds / 3600 + chance.uniform(-noise, noise),
            descriptors=30 + leak * seconds // 3600 + chance.randrange(3),
            threads=10 + leak * seconds // 3600,
            tasks=12 + leak * seconds // 3600 + chance.randrange(60),
        )
        for seconds in range(0, 3600, 10)
    ]


def test_noise_is_no_leak() -> None:
    """Memory that wavers and tasks that come and go with requests."""
    found = trend(_samples(noise=10.0), 600.0)
    assert found.problems() == []
    assert abs(found.growth_mib) < 3


def test_a_leak_of_memory_is_found() -> None:
    """Forty MiB an hour, on top of a hundred."""
    (problem,) = trend(_samples(leak_mib=40.0), 600.0).problems()
    assert "memory grew by 3" in problem


def test_what_leaks_one_by_one_is_found() -> None:
    """Descriptors, threads and tasks, though the tasks of requests hide them in every single look."""
    problems = trend(_samples(leak=40), 600.0).problems()
    assert [problem.split()[0] for problem in problems] == ["descriptors", "threads", "tasks"]


def test_the_warm_up_is_not_judged() -> None:
    """A process that doubles in its first minutes and stays there is flat."""
    samples = [sample._replace(mib=min(sample.mib, 50 + sample.seconds / 10)) for sample in _samples(noise=0.0)]
    assert trend(samples, 600.0).problems() == []
    assert trend(samples, 0.0).begin_mib < 80


def test_peaks_do_not_move_the_slope() -> None:
    """Three of ten points far off the line leave it where it is."""
    points = [(float(n), 2.0 * n) for n in range(10)]
    points[2], points[5], points[9] = (2.0, 500.0), (5.0, -300.0), (9.0, 900.0)
    assert slope(points) == pytest.approx(2.0, abs=0.5)


def test_a_look_at_this_very_process() -> None:
    """What /proc says: this test has memory, a thread, and two descriptors more while it holds a pipe."""
    before = look(os.getpid(), 1.0, 7)
    end, other = os.pipe()
    after = look(os.getpid(), 2.0, 7)
    os.close(end)
    os.close(other)
    assert before.mib > 1
    assert before.threads >= 1
    assert (before.seconds, before.tasks) == (1.0, 7)
    assert after.descriptors == before.descriptors + 2
