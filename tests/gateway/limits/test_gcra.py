"""The rate of a source: one number keeps what a bucket of tokens would keep."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.gcra import LONGEST_PERIOD_NS, MAX_EVENTS_PER_SECOND, NANOS, Quota, charge, remaining, wait_ns

QUOTAS = st.builds(Quota, st.integers(1, 2 * NANOS), st.integers(1, 500))
ARRIVALS = st.lists(st.tuples(st.integers(0, 20 * NANOS), st.integers(1, 700)), max_size=40)


class TokenBucket:
    """The textbook's model, in exact fractions: tokens drip in, up to the burst, and each event takes one.

    A request of more than the burst waits for a full bucket and leaves it in debt.
    """

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.tokens = Fraction(quota.burst)
        self.now_ns = 0

    def advance(self, now_ns: int) -> None:
        """Let tokens drip in."""
        dripped = Fraction(now_ns - self.now_ns, self.quota.period_ns)
        self.tokens = min(Fraction(self.quota.burst), self.tokens + dripped)
        self.now_ns = now_ns

    def take(self, count: int) -> bool:
        """Take tokens if they are there."""
        if self.tokens < min(count, self.quota.burst):
            return False
        self.tokens -= count
        return True


@given(QUOTAS, ARRIVALS)
def test_it_decides_as_a_bucket_of_tokens_does(quota: Quota, arrivals: list[tuple[int, int]]) -> None:
    """Any requests at any moments are let through and refused alike, and what is left is the same."""
    bucket, tat_ns, now_ns = TokenBucket(quota), 0, 0
    for pause_ns, count in arrivals:
        now_ns += pause_ns
        bucket.advance(now_ns)
        passes = wait_ns(tat_ns, count, quota, now_ns) <= 0
        assert passes == bucket.take(count)
        if passes:
            tat_ns = charge(tat_ns, count, quota, now_ns)
        assert remaining(tat_ns, quota, now_ns) == max(0, bucket.tokens.numerator // bucket.tokens.denominator)


@given(QUOTAS, ARRIVALS)
def test_a_refused_request_passes_after_its_wait_and_not_a_nanosecond_before(
    quota: Quota, arrivals: list[tuple[int, int]]
) -> None:
    """The wait is exact, so that Retry-After is neither a lie nor a waste."""
    tat_ns = now_ns = 0
    for pause_ns, count in arrivals:
        now_ns += pause_ns
        wait = wait_ns(tat_ns, count, quota, now_ns)
        if wait > 0:
            assert wait_ns(tat_ns, count, quota, now_ns + wait - 1) == 1
            now_ns += wait
            assert wait_ns(tat_ns, count, quota, now_ns) == 0
        tat_ns = charge(tat_ns, count, quota, now_ns)


@given(QUOTAS, ARRIVALS)
def test_the_rate_holds_over_any_stretch(quota: Quota, arrivals: list[tuple[int, int]]) -> None:
    """From the start to any moment, no more passes than the burst, what dripped in, and one oversized request."""
    tat_ns = now_ns = passed = 0
    for pause_ns, count in arrivals:
        now_ns += pause_ns
        if wait_ns(tat_ns, count, quota, now_ns) <= 0:
            tat_ns = charge(tat_ns, count, quota, now_ns)
            passed += count
            oversize = max(0, count - quota.burst)
            assert passed <= quota.burst + now_ns // quota.period_ns + oversize


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1_000_001, 1), (10, 0), (float("nan"), 1)])
def test_a_quota_that_lets_nothing_or_anything_through_is_none(rate: float, burst: int) -> None:
    """A rate is above 0 and at most a million, a burst 1 or more."""
    with pytest.raises(ValueError, match=r"events a second|burst"):
        Quota.of(rate, burst)


def test_a_quota_knows_its_window() -> None:
    """How long the bucket takes to fill, rounded up to seconds."""
    assert Quota.of(1000, 2000) == Quota(1_000_000, 2000)
    assert Quota.of(1000, 2000).window_seconds == 2
    assert Quota.of(1000, 1).window_seconds == 1
    assert Quota.of(0.5, 3).window_seconds == 6


@given(st.floats(0, MAX_EVENTS_PER_SECOND, exclude_min=True), st.integers(1, 1_000_000))
def test_every_rate_that_may_be_asked_for_is_a_quota(rate: float, burst: int) -> None:
    """Also the least that there is above 0, of which one event would take longer than any number says."""
    quota = Quota.of(rate, burst)
    assert 1 <= quota.period_ns <= LONGEST_PERIOD_NS
    assert quota.window_seconds < 10**15, "no more digits than a header field may hold (RFC 8941, section 3.3.1)"
    assert wait_ns(0, 1, quota, 0) <= 0
