"""The limit of the pipeline finds what the pipeline can carry in time."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.adaptive import AdaptiveLimit, Bounds

MS = 1_000_000
BOUNDS = Bounds(least=100, most=2_000, target_ns=200 * MS, window_ns=50 * MS)


def answer(limit: AdaptiveLimit, now_ns: int, took_ms: int, *, answered: bool = True, weight: int = 10) -> None:
    """One request ends."""
    limit.observe(weight, now_ns - took_ms * MS, now_ns, answered=answered)


def test_it_begins_in_the_middle_and_stays_while_nobody_misses_it() -> None:
    """Fast answers alone are no reason to let more in."""
    limit = AdaptiveLimit(BOUNDS, 0)
    for now in range(100 * MS, 2000 * MS, 100 * MS):
        answer(limit, now, 50)
    assert limit.value == 1_000


def test_it_grows_while_somebody_was_kept_out_and_answers_are_in_time() -> None:
    """A step in each window, up to the most."""
    limit = AdaptiveLimit(BOUNDS, 0)
    values = []
    for now in range(100 * MS, 2000 * MS, 100 * MS):
        limit.miss()
        answer(limit, now, 50)
        values.append(limit.value)
    assert values[:3] == [1_100, 1_200, 1_300]
    assert limit.value == 2_000


def test_it_shrinks_while_answers_are_late_though_somebody_was_kept_out() -> None:
    """By as much as they are late, never below the least."""
    limit = AdaptiveLimit(BOUNDS, 0)
    values = []
    for now in range(400 * MS, 10_000 * MS, 400 * MS):
        limit.miss()
        answer(limit, now, 300)
        values.append(limit.value)
    assert values[:3] == [666, 444, 296]
    assert limit.value == 100


def test_answers_to_what_came_before_a_change_tell_nothing_of_it() -> None:
    """One late wave shrinks the limit once, however many answers it has: the next change waits for new requests."""
    limit = AdaptiveLimit(BOUNDS, 0)
    for now in range(400 * MS, 700 * MS, MS):
        answer(limit, now, 350)
    assert limit.value == 571


def test_quick_answers_of_others_do_not_hide_the_late_ones() -> None:
    """A quiet source's answers are quick, and older requests' answers late: the limit does not grow on the former."""
    limit = AdaptiveLimit(BOUNDS, 0)
    for now in range(300 * MS, 600 * MS, 10 * MS):
        limit.miss()
        answer(limit, now, 299)
        answer(limit, now, 10, weight=1)
    assert limit.value < 1_000


def test_large_requests_count_by_their_weight() -> None:
    """One late event beside a hundred in time changes nothing; a hundred late ones beside one in time do."""
    for late, value in ((1, 1_000), (100, 673)):
        limit = AdaptiveLimit(BOUNDS, 0)
        limit.observe(101 - late, 0, 10 * MS, answered=True)
        limit.observe(late, 0, 300 * MS, answered=True)
        assert limit.value == value


def test_a_failure_tells_of_the_load_only_when_it_was_slow() -> None:
    """A service that is down answers at once, and the limit does not grow on it; a timeout shrinks it."""
    limit = AdaptiveLimit(BOUNDS, 0)
    limit.miss()
    answer(limit, 100 * MS, 1, answered=False)
    assert limit.value == 1_000
    answer(limit, 400 * MS, 300, answered=False)
    assert limit.value == 666


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 1500), st.integers(1, 5000), st.booleans(), st.booleans()))
)
def test_it_stays_within_its_bounds_whatever_comes(samples: list[tuple[int, int, int, bool, bool]]) -> None:
    """No series of answers takes it beyond the least and the most."""
    limit, now = AdaptiveLimit(BOUNDS, 0), 0
    for pause_ms, took_ms, weight, answered, missed in samples:
        now += pause_ms * MS
        if missed:
            limit.miss()
        answer(limit, now, took_ms, answered=answered, weight=weight)
        assert BOUNDS.least <= limit.value <= BOUNDS.most


def test_it_settles_where_the_pipeline_answers_in_time() -> None:
    """A pipeline that carries 2,000 events a second is held at what it carries within the target, which is 400."""
    limit, now, seen = AdaptiveLimit(BOUNDS, 0), 0, []
    for _ in range(200):
        took_ms = limit.value * 1000 // 2000
        now += (took_ms + 60) * MS
        limit.miss()
        answer(limit, now, took_ms)
        seen.append(limit.value)
    assert min(seen[20:]) >= 300
    assert max(seen[20:]) <= 510
