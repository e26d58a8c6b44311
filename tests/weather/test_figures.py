"""What is told of a fault: latency before and during, when it was over, and the order of each visitor."""

import pytest

from tests.faults.audit import Copies, Copy
from tests.weather.figures import Probe, inversions, latency, slow_seconds

_BEGIN = 100.0


def _probes(*seconds: float, since: float) -> list[Probe]:
    return [Probe(since + number, since + number + took) for number, took in enumerate(seconds)]


def test_a_fault_that_nobody_notices_has_no_last_slow_answer() -> None:
    """Quick answers throughout: the figures before and during are those of the probes, and nothing was slow."""
    quick = _probes(0.01, 0.02, since=90.0) + _probes(0.03, 0.04, since=_BEGIN)
    assert latency(quick, _BEGIN, _BEGIN + 5) == pytest.approx((0.02, 0.04, 0.0))


def test_a_fault_is_over_when_the_last_slow_answer_has_come() -> None:
    """Also when that is long after it was mended; quick answers from then on count for nothing."""
    probes = _probes(0.1, 0.1, since=90.0) + _probes(9.0, 8.0, 0.1, since=_BEGIN) + _probes(0.1, since=120.0)
    before, during, back = latency(probes, _BEGIN, _BEGIN + 2)
    assert (before, during) == pytest.approx((0.1, 9.0))
    assert back == pytest.approx(9.0)


def test_what_was_under_way_when_the_fault_began_is_not_from_before() -> None:
    """Its answer came through the fault: only what was answered before says how it was before."""
    probes = [*_probes(0.1, since=90.0), Probe(99.9, 112.0), *_probes(0.1, since=_BEGIN)]
    assert latency(probes, _BEGIN, _BEGIN + 5).before == pytest.approx(0.1)


def test_slow_is_measured_by_what_was_usual() -> None:
    """Half a second, or three times the p99 where a busy machine answers slower anyway."""
    assert slow_seconds(0.01) == 0.5
    assert slow_seconds(1.0) == 3.0


def _stored(*places: tuple[int, int]) -> tuple[list[str], Copies]:
    """A journey and where its events stand, as partition and offset."""
    names = [str(number) for number in range(len(places))]
    return names, {name: [Copy(0.0, *place)] for name, place in zip(names, places, strict=True)}


def test_a_visitor_in_order_has_no_inversion() -> None:
    """Rising offsets in one partition, with others' events between them."""
    assert inversions(*_stored((2, 4), (2, 5), (2, 9))) == 0


@pytest.mark.parametrize("places", [[(2, 4), (2, 9), (2, 5)], [(2, 4), (1, 5), (2, 6)]])
def test_an_event_behind_a_later_one_or_elsewhere_is_an_inversion(places: list[tuple[int, int]]) -> None:
    """A lower offset than an earlier call's, and another partition than the first call's."""
    assert inversions(*_stored(*places)) == 1


def test_a_second_copy_and_a_missing_event_are_no_inversions() -> None:
    """Those are counted as doubled and lost."""
    journey, events = _stored((0, 1), (0, 2), (0, 3))
    doubled = {**events, "0": [Copy(0.0, 0, 1), Copy(0.0, 0, 7)]}
    del doubled["1"]
    assert inversions(journey, doubled) == 0
