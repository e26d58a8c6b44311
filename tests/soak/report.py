"""A soak's figures as Markdown, and what fails it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.report import table
from tests.soak.samples import Trend

BEGIN: Final = "<!-- Written by `make soak`: do not edit from here -->"
END: Final = "<!-- to here (soak). -->"
_NAMES: Final = ("process", "MiB after warm-up", "MiB at the end", "trend MiB", "descriptors", "threads", "tasks")


@dataclass(frozen=True, slots=True)
class Soak:
    """A run.

    Attributes:
        warm_up: Seconds at its beginning that are not judged.
        capacity, rate: Events a second: what a closed loop got through, and what was sent.
        load: What the load generator measured.
        trends: Of each process.
        ledger: Where the ledger does not agree.
    """

    date: str
    seconds: float
    warm_up: float
    capacity: float
    rate: float
    load: Mapping[str, Any]
    trends: Mapping[str, Trend]
    ledger: list[str]

    def problems(self) -> list[str]:
        """Why the run has failed; empty when it has not."""
        found = [f"{name}: {problem}" for name, each in self.trends.items() for problem in each.problems()]
        found += [f"ledger: {problem}" for problem in self.ledger]
        found += [f"{count:,} answers were {what}" for what, count in self.load["errors"].items()]
        return found


def render(soak: Soak) -> str:
    """All figures."""
    balance = "the ledger balances with the topics" if not soak.ledger else f"**the ledger: {'; '.join(soak.ledger)}**"
    errors = ", ".join(f"{what} {count:,}" for what, count in soak.load["errors"].items()) or "none"
    head = (
        f"{soak.date}: {soak.seconds / 60:g} minutes at {soak.rate:,.0f} events a second, half of what a closed loop"
        f" got through ({soak.capacity:,.0f}); {soak.load['requests']:,} answered 200, p99"
        f" {soak.load['p99_ms']:,.0f} ms, other answers: {errors}; {balance}. Judged from minute"
        f" {soak.warm_up / 60:.1f} on."
    )
    return f"{head}\n\n{table(_NAMES, [_cells(name, each) for name, each in sorted(soak.trends.items())])}"


def _cells(name: str, each: Trend) -> list[object]:
    counts = (each.descriptors, each.threads, each.tasks)
    return [
        name,
        f"{each.begin_mib:.0f}",
        f"{each.end_mib:.0f}",
        f"{each.growth_mib:+.1f}",
        *(f"{first} to {last}" for first, last in counts),
    ]
