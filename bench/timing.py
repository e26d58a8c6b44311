"""What every load has in common: when requests arrive, what counts, and what is told of it."""

import asyncio
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Protocol


class Measured(Protocol):
    """What a summary tells of the plan it is of."""

    connections: int
    duration: float
    rate: float


def arrivals(begin: float, rate: float, seed: int = 7) -> Iterator[float]:
    """Moments of a Poisson process, so many a second on average; the same seed gives the same distances."""
    distances = random.Random(seed)
    while True:
        begin += -math.log(1.0 - distances.random()) / rate
        yield begin


async def tell_window(begin: float, end: float, *, marks: bool) -> None:
    """Wait for the end of what counts; `marks` prints a line at its begin and at its end, for whoever watches."""
    for moment, word in ((begin, "begin"), (end, "end")):
        # Loops wake up to a millisecond early.
        await asyncio.sleep(moment - perf_counter() + 0.002)
        if marks:
            print(word, flush=True)


def quantile(ordered: list[float], share: float) -> float:
    """The value below which a share of a sorted list lies; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def summary(
    latencies: Sequence[float],
    problems: Mapping[str, int],
    events_per_body: int,
    plan: Measured,
    cpu_seconds: float,
) -> dict[str, object]:
    """What was measured; latencies in milliseconds, the generator's own CPU time with it."""
    ordered = sorted(latencies)
    requests_per_second = len(ordered) / plan.duration
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {
        "mode": "open" if plan.rate else "closed",
        "connections": plan.connections,
        "batch": events_per_body,
        "seconds": plan.duration,
        "requests": len(ordered),
        "requests_per_second": round(requests_per_second, 1),
        "events_per_second": round(requests_per_second * events_per_body, 1),
        **{name: round(quantile(ordered, share) * 1000, 3) for name, share in shares.items()},
        "errors": dict(problems),
        "generator_cpu_seconds": round(cpu_seconds, 2),
    }
