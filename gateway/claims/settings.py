"""What can be set about claims and the ledger."""

from dataclasses import dataclass

from mesh.settings import check_range, setting

_LEAST_WINDOW_HOURS = 24.0
_MOST_DAYS = 36_500
_MOST_ROWS = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class ClaimsSettings:
    """Where messages are remembered, how long, and how many."""

    database: str = setting(
        "CLEW_DATABASE",
        default="",
        help="postgresql://... that several gateways share; empty: SQLite in the data directory, for one gateway",
        secret=True,
    )
    window_hours: float = setting(
        "CLEW_DEDUPE_WINDOW_HOURS", default=24.0, help="hours that a message id is remembered, 24 or more"
    )
    max_rows: int = setting(
        "CLEW_DEDUPE_MAX_ROWS",
        default=20_000_000,
        help="messages remembered at most, about 80 bytes each; beyond it the oldest are forgotten early",
    )
    ledger_days: int = setting("CLEW_LEDGER_DAYS", default=90, help="days that the ledger keeps its counts, 1 or more")

    def __post_init__(self) -> None:
        """Refuse what would forget too early, or a database of another kind."""
        if self.database and not self.database.startswith(("postgresql://", "postgres://")):
            raise ValueError("CLEW_DATABASE: its value is no postgresql://USER:PASSWORD@HOST:PORT/NAME")
        if self.window_hours < _LEAST_WINDOW_HOURS:
            raise ValueError(f"CLEW_DEDUPE_WINDOW_HOURS: {self.window_hours:g} is less than 24: retries come later")
        # Times beyond could not be written down, and every event would fail by that.
        check_range("CLEW_DEDUPE_WINDOW_HOURS", self.window_hours, _LEAST_WINDOW_HOURS, _MOST_DAYS * 24)
        check_range("CLEW_LEDGER_DAYS", self.ledger_days, 1, _MOST_DAYS)
        check_range("CLEW_DEDUPE_MAX_ROWS", self.max_rows, 1, _MOST_ROWS)
