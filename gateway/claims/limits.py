"""How much a store remembers."""

from dataclasses import dataclass

_HOUR_SECONDS = 3_600
_DAY_MINUTES = 1_440


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is kept.

    Attributes:
        window_hours: How long a message is remembered.
        max_rows: How many messages are remembered at most; beyond it the oldest go first, however young they are.
        ledger_days: How long counts are kept.

    """

    window_hours: float = 24.0
    max_rows: int = 20_000_000
    ledger_days: int = 90

    def expiry(self, now: float) -> int:
        """When a message of now is forgotten; seconds since the Unix epoch."""
        return int(now) + round(self.window_hours * _HOUR_SECONDS)

    def first_minute(self, now: float) -> int:
        """The oldest minute that is kept."""
        return int(now) // 60 - self.ledger_days * _DAY_MINUTES
