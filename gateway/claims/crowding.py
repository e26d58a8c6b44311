"""A store that is full says so: it forgets messages early, and a copy of one of these would be published again."""

import structlog

from gateway.claims.limits import Limits

_PAUSE_SECONDS = 3_600


class Crowding:
    """Warns when messages are forgotten before their window is over, once an hour at most.

    Args:
        limits: How much is remembered.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._quiet_until = 0.0
        self._log = structlog.get_logger("gateway.claims")

    def tell(self, now: float) -> None:
        """Messages have been forgotten early; `now` in seconds since the Unix epoch."""
        if now < self._quiet_until:
            return
        self._quiet_until = now + _PAUSE_SECONDS
        self._log.warning(
            "messages are forgotten before their window is over, and copies of them are published: raise"
            " CLEW_DEDUPE_MAX_ROWS",
            most=self._limits.max_rows,
            window_hours=self._limits.window_hours,
        )
