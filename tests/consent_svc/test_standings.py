"""What is kept in memory of the ledger."""

from consent_svc.decision import NOTHING_RECORDED, fold
from consent_svc.ledger import Entry
from consent_svc.standings import Epochs, Standings


def entry(subject: str, at: int = 1, granted: int = 4, denied: int = 0) -> Entry:
    """Make an entry of a subject."""
    return Entry(at, subject, granted, denied, "test", "", at, at)


def load(standings: Standings, *subjects: str, workspace: str = "w") -> None:
    """Remember that nothing is on record for some subjects."""
    standings.end_load(standings.begin_load(workspace, subjects), {})


def test_subjects_without_a_record_are_remembered_too() -> None:
    """Most visitors never chose: asking the ledger for each of them again would be the common case."""
    standings = Standings(10)
    load(standings, "a", "b")
    assert standings.cached("w", ["a", "b", "c"]) == {"a": NOTHING_RECORDED, "b": NOTHING_RECORDED}
    assert standings.cached("w", ["a"])["a"] is NOTHING_RECORDED


def test_workspaces_are_apart() -> None:
    """The same subject in two workspaces is two people."""
    standings = Standings(10)
    load(standings, "a", workspace="one")
    assert standings.cached("two", ["a"]) == {}


def test_the_cache_is_bounded_and_keeps_what_was_used_last() -> None:
    """Beyond its capacity the subject that was asked for longest ago goes."""
    standings = Standings(2)
    load(standings, "a", "b")
    standings.cached("w", ["a"])
    load(standings, "c")
    assert len(standings) == 2
    assert set(standings.cached("w", ["a", "b", "c"])) == {"a", "c"}


def test_a_load_that_is_larger_than_the_cache_is_answered_whole() -> None:
    """The answer does not depend on what memory could keep of it."""
    standings = Standings(1)
    loaded = standings.end_load(standings.begin_load("w", ["a", "b"]), {"a": [entry("a")]})
    assert loaded == {"a": fold([entry("a")]), "b": NOTHING_RECORDED}
    assert len(standings) == 1


def test_an_entry_updates_a_subject_in_memory_only() -> None:
    """A subject that is not in memory is not half remembered: its older entries are unknown."""
    standings = Standings(10)
    load(standings, "a")
    standings.apply("w", entry("a"))
    standings.apply("w", entry("b"))
    assert standings.cached("w", ["a", "b"]) == {"a": fold([entry("a")])}


def test_a_load_that_an_entry_overtook_is_not_kept() -> None:
    """What was read before a withdrawal and arrives after it must not cover it."""
    standings = Standings(10)
    first, second = standings.begin_load("w", ["a", "b"]), standings.begin_load("w", ["c"])
    standings.apply("w", entry("a"))
    standings.end_load(second, {})
    standings.end_load(first, {})
    assert set(standings.cached("w", ["a", "b", "c"])) == {"b", "c"}
    load(standings, "a")
    assert set(standings.cached("w", ["a"])) == {"a"}


def test_a_load_that_was_under_way_when_all_was_forgotten_is_not_kept() -> None:
    """Forgetting reaches what is still being read."""
    standings = Standings(10)
    under_way = standings.begin_load("w", ["a"])
    standings.forget_all()
    standings.end_load(under_way, {})
    assert len(standings) == 0


def test_a_failed_load_leaves_nothing_behind() -> None:
    """After a failed read the subjects are as unknown as before, and later reads are kept again."""
    standings = Standings(10)
    assert standings.end_load(standings.begin_load("w", ["a"]), None) == {}
    load(standings, "b")
    assert set(standings.cached("w", ["a", "b"])) == {"b"}


def test_an_epoch_is_reached_once_all_before_it_are_in_force() -> None:
    """Entries may be applied in any order; a gap holds the epoch back until it is filled."""
    epochs = Epochs({"w": 5})
    epochs.apply("w", 7)
    epochs.apply("w", 8)
    assert epochs.reached("w") == 5
    epochs.apply("w", 6)
    assert epochs.reached("w") == 8
    assert epochs.reached("elsewhere") == 0


def test_catching_up_closes_gaps_and_never_goes_back() -> None:
    """An entry that was committed without our knowledge is counted once the ledger was read again."""
    epochs = Epochs({})
    epochs.apply("w", 2)
    epochs.apply("w", 4)
    epochs.catch_up({"w": 3})
    assert epochs.reached("w") == 4
    epochs.catch_up({"w": 3, "v": 1})
    assert (epochs.reached("w"), epochs.reached("v")) == (4, 1)
