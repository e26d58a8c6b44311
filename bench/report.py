"""The report: medians over the rounds, and medians of the ratios within each round, as Markdown."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.measure import Measurement
from bench.workloads import WORKLOADS, Workload

BASELINE = "typical"
# A quantile of fewer answers than this says nothing of one in a thousand.
_ENOUGH_FOR_P999 = 2_000

Rounds = Sequence[Sequence[Measurement]]


def report(rounds: Rounds) -> str:
    """All tables."""
    found = [each for measured in rounds for each in measured]
    lines: list[str] = []
    for workload in WORKLOADS.values():
        for broker in dict.fromkeys(each.broker for each in found):
            own = _of(rounds, workload.key, broker)
            if any(own):
                lines += [f"### {workload.name}; broker: {broker}", "", *_throughput(own), ""]
                lines += [*_latency(own), ""] if any(each.share for measured in own for each in measured) else []
    unsteady = sum(not each.steady for each in found)
    lines.append(f"{len(rounds)} rounds; the machine's speed moved during {unsteady} of {len(found)} measurements.")
    return "\n".join(lines)


def _of(rounds: Rounds, workload: str, broker: str) -> list[list[Measurement]]:
    return [[each for each in found if (each.workload, each.broker) == (workload, broker)] for found in rounds]


def _throughput(rounds: Rounds) -> Iterator[str]:
    """A row for each system: its closed loops."""
    yield "| system | events/s | x typical | CPU us/event | by process | broker | MiB | p50 ms | p99 ms | errors |"
    yield "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|"
    closed = [[each for each in measured if not each.share] for measured in rounds]
    for name in dict.fromkeys(each.system for measured in closed for each in measured):
        own = [each for measured in closed for each in measured if each.system == name]
        yield (
            f"| {name} | {_median(own, lambda each: each.events_per_second):,.0f} | {_ratio(closed, name)} "
            f"| {_median(own, lambda each: each.total_cpu_us):,.0f} | {_by_process(own, lambda each: each.cpu_us)} "
            f"| {_median(own, lambda each: each.broker_cpu_us):,.0f} "
            f"| {_median(own, lambda each: sum(each.pss_mib.values())):,.0f} "
            f"| {_median(own, lambda each: each.p50_ms):,.1f} | {_median(own, lambda each: each.p99_ms):,.1f} "
            f"| {sum(sum(each.errors.values()) for each in own)} |"
        )


def _latency(rounds: Rounds) -> Iterator[str]:
    """A row for each system and load: its open loops."""
    yield "| at a part of its own capacity | events/s | p50 ms | p99 ms | p99.9 ms | errors |"
    yield "|---|---:|---:|---:|---:|---:|"
    opened = [each for measured in rounds for each in measured if each.share]
    for name, share in dict.fromkeys((each.system, each.share) for each in opened):
        own = [each for each in opened if (each.system, each.share) == (name, share)]
        rare = f"{_median(own, lambda each: each.p999_ms):,.1f}" if _enough(own) else "-"
        yield (
            f"| {name}, {share:.0%} | {_median(own, lambda each: each.events_per_second):,.0f} "
            f"| {_median(own, lambda each: each.p50_ms):,.1f} | {_median(own, lambda each: each.p99_ms):,.1f} | {rare} "
            f"| {sum(sum(each.errors.values()) for each in own)} |"
        )


def _enough(own: Sequence[Measurement]) -> bool:
    return min(each.requests for each in own) >= _ENOUGH_FOR_P999


def _median(own: Sequence[Measurement], value: Callable[[Measurement], float]) -> float:
    return statistics.median(map(value, own))


def _by_process(own: Sequence[Measurement], values: Callable[[Measurement], Mapping[str, float]]) -> str:
    if len(values(own[0])) < 2:
        return "-"
    medians = {name: statistics.median(values(each)[name] for each in own) for name in values(own[0])}
    return ", ".join(f"{name} {value:,.0f}" for name, value in medians.items())


def _ratio(rounds: Rounds, name: str) -> str:
    """The median of the ratios to the baseline; a round without it says nothing."""
    ratios: list[float] = []
    for measured in rounds:
        rates = {each.system: each.events_per_second for each in measured}
        if rates.get(BASELINE) and name in rates:
            ratios.append(rates[name] / rates[BASELINE])
    return f"{statistics.median(ratios):.1f}" if ratios else "-"


def capacity(rounds: Rounds, system: str, broker: str, workload: Workload) -> float:
    """Requests a second that a system carried in the closed loops so far, the median."""
    rates = [
        each.events_per_second / workload.events_per_request
        for measured in rounds
        for each in measured
        if not each.share and (each.system, each.broker, each.workload) == (system, broker, workload.key)
    ]
    return statistics.median(rates) if rates else 0.0
