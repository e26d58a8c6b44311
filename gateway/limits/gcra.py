"""The generic cell rate algorithm: a token bucket that is one number (ITU-T I.371, annex A; "virtual scheduling").

The number is the theoretical arrival time (TAT): the moment at which the bucket is full again. Everything is integer
nanoseconds on a clock that does not go backwards, and nothing is stored here.
"""

from typing import Final, NamedTuple

NANOS: Final = 1_000_000_000
MAX_EVENTS_PER_SECOND: Final = 1_000_000.0
"""Highest rate: above it the period of one event, in whole nanoseconds, is no longer exact to a tenth of a percent."""
LONGEST_PERIOD_NS: Final = 10**17
"""Of a lower rate than one event in three years, which would be as good as none: more may be no number at all."""


class Quota(NamedTuple):
    """A rate: one event comes back every `period_ns`, and at most `burst` are there at once."""

    period_ns: int
    burst: int

    @classmethod
    def of(cls, events_per_second: float, burst: int) -> "Quota":
        """The quota of a rate.

        Raises:
            ValueError: The rate is not above 0 and at most 1,000,000 events a second, or the burst is below 1.
        """
        if not 0 < events_per_second <= MAX_EVENTS_PER_SECOND:
            raise ValueError(f"{events_per_second:g} events a second is not above 0 and at most 1,000,000")
        if burst < 1:
            raise ValueError(f"a burst of {burst} lets nothing through; use 1 or more")
        return cls(round(min(NANOS / events_per_second, LONGEST_PERIOD_NS)), burst)

    @property
    def window_seconds(self) -> int:
        """How long an empty bucket takes to fill, in seconds, rounded up."""
        return -(-self.burst * self.period_ns // NANOS)


def wait_ns(tat_ns: int, count: int, quota: Quota, now_ns: int) -> int:
    """How long until `count` events may pass; 0 or less: now.

    A request of more events than the bucket holds passes when the bucket is full, and leaves a debt: it could never
    pass otherwise, while the rate holds in the long run all the same.
    """
    period_ns, burst = quota
    needed = min(burst, count)
    return max(tat_ns, now_ns) + (needed - burst) * period_ns - now_ns


def charge(tat_ns: int, count: int, quota: Quota, now_ns: int) -> int:
    """The TAT once `count` events have passed."""
    return max(tat_ns, now_ns) + count * quota.period_ns


def remaining(tat_ns: int, quota: Quota, now_ns: int) -> int:
    """How many events may pass at once now, 0 or more."""
    period_ns, burst = quota
    owed = tat_ns - now_ns
    return burst if owed <= 0 else max(0, (burst * period_ns - owed) // period_ns)
