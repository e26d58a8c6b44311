"""The schedule of kills."""

from collections import Counter

import pytest

from tests.faults.schedule import schedule, targets


def test_a_seed_makes_the_same_kills_again() -> None:
    """Whoever has the seed can repeat a run; another seed, or another mesh, makes another run."""
    assert schedule(7, targets(2), 40) == schedule(7, targets(2), 40)
    assert schedule(7, targets(2), 40) != schedule(8, targets(2), 40)
    assert [fault.target for fault in schedule(7, targets(1), 40)] != [
        fault.target for fault in schedule(7, targets(2), 40)
    ]


@pytest.mark.parametrize("gateways", [1, 2])
def test_every_process_is_killed_about_as_often(gateways: int) -> None:
    """After any number of rounds no process was killed more than once more often than another."""
    names = targets(gateways)
    for rounds in (len(names), 20, 100):
        counts = Counter(fault.target for fault in schedule(1, names, rounds))
        assert counts.keys() == set(names)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_mesh_has_every_process_once() -> None:
    """Kafka and each gateway are killed as the services are."""
    assert sorted(targets(2)) == ["consent", "enrich", "gateway-1", "gateway-2", "identity", "kafka"]
    assert targets(2, ["gateway"]) == ("gateway-1", "gateway-2")


def test_rounds_are_numbered_through() -> None:
    """A run that continues another one numbers its rounds on."""
    assert [fault.number for fault in schedule(1, targets(1), 7, first=21)] == list(range(21, 28))
