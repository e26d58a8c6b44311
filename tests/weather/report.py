"""The rows as Markdown, and their place in docs/RELIABILITY.md."""

from collections.abc import Sequence
from typing import Any, Final

from tests.faults.report import table
from tests.weather.phase import Row

BEGIN: Final = "<!-- Written by `make test-weather`: do not edit from here -->"
END: Final = "<!-- to here (weather). -->"
_NAMES: Final = (
    "fault",
    "lasted s",
    "acknowledged",
    "**lost**",
    "**doubled**",
    "**out of order**",
    "p99 before ms",
    "p99 during ms",
    "last slow answer after s",
    "refused answers",
)


def render(date: str, rows: Sequence[Row], seconds: float, ledger: Sequence[str]) -> str:
    """All figures: `seconds` is what the whole run took, `ledger` where the ledger does not agree."""
    total = sum(row.acknowledged for row in rows)
    balance = "the ledger balances with the topics" if not ledger else f"**the ledger: {'; '.join(ledger)}**"
    lines = [
        f"{date}: {len(rows)} faults in {seconds / 60:.1f} minutes, {total:,} events acknowledged; {balance}.",
        table(_NAMES, [_cells(row) for row in rows]),
    ]
    return "\n\n".join(lines)


def _cells(row: Row) -> list[Any]:
    refused = ", ".join(f"{what} {count:,}" for what, count in sorted(row.refused.items(), key=_by_count))
    return [
        row.title,
        f"{row.lasted:.1f}",
        row.acknowledged,
        row.lost,
        row.doubled,
        row.inversions,
        f"{1000 * row.before:,.0f}",
        f"{1000 * row.during:,.0f}",
        f"{row.back:.1f}",
        refused or "none",
    ]


def _by_count(item: tuple[str, int]) -> int:
    return -item[1]
