"""What a phase's row says of planted losses, doubles and inversions."""

from tests.faults.audit import Copies, Copy
from tests.faults.load import Client
from tests.weather.faults import FAULTS
from tests.weather.figures import Probe
from tests.weather.load import Load
from tests.weather.phase import Phase, assess


def _phase() -> Phase:
    """One visitor's four events, all accepted, in a phase with a quick answer before and one within."""
    load = Load(Client(["http://g"], "key", ""))
    load.journeys.append(["a", "b", "c", "d"])
    for name in load.journeys[0]:
        load.client.claims.sent.add(name)
        load.client.claims.tell(name, "accepted", 1.0)
    load.client.answers.update({"200": 4, "503": 2})
    load.probes += [Probe(5.0, 5.1), Probe(10.0, 10.2)]
    return Phase(FAULTS[0], load, 9.0, 11.0)


def _at(*offsets: int) -> list[Copy]:
    return [Copy(0.0, 0, offset) for offset in offsets]


def test_a_phase_that_kept_every_promise_has_no_problem() -> None:
    """Other phases' events on the topics are not its concern."""
    events: Copies = {"a": _at(1), "b": _at(2), "c": _at(3), "d": _at(9), "somebody else's": _at(4, 5)}
    row = assess(_phase(), events, {})
    assert row.problems == []
    assert (row.acknowledged, row.refused) == (4, {"503": 2})


def test_each_broken_promise_is_counted() -> None:
    """One event is not there, one is there twice, one stands behind a later one, and one was filed as failed."""
    events: Copies = {"b": _at(7), "c": _at(3), "d": _at(8, 20)}
    row = assess(_phase(), events, {"d": _at(0), "somebody else's": _at(1)})
    assert (row.lost, row.doubled, row.inversions, row.misplaced) == (1, 1, 1, 1)
    assert len(row.problems) == 4
