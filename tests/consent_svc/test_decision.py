"""The decision, on plain values."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent_svc.decision import NOTHING_RECORDED, Basis, decide, fold, join
from consent_svc.ledger import Entry
from consent_svc.purpose import ALL, NONE, PURPOSES, mask_of_names

ESSENTIAL = mask_of_names(["essential"])
ANALYTICS = mask_of_names(["analytics"])
MARKETING = mask_of_names(["marketing"])

masks = st.sets(st.sampled_from(PURPOSES)).map(lambda numbers: sum(1 << number for number in numbers))


def entry(granted: int = NONE, denied: int = NONE, at: int = 0, recorded: int | None = None) -> Entry:
    """Make an entry that was decided, and unless said otherwise recorded, at a time."""
    return Entry(1, "p", granted, denied, "test", "", at, at if recorded is None else recorded)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry, at one of few moments, so that ties are common."""
    granted, moment = draw(masks), draw(st.integers(0, 4))
    return entry(granted, draw(masks) & ~granted, at=moment, recorded=draw(st.integers(0, 4)))


def granted_by(*some: Entry) -> int:
    """Decide by these entries alone, without anything essential."""
    return decide(fold(some), NONE, NONE)[0]


def test_unknown_consent_allows_only_what_is_essential() -> None:
    """Nothing on record: the essential purposes and no other."""
    assert decide(NOTHING_RECORDED, NONE, ESSENTIAL) == (ESSENTIAL, Basis.DEFAULT)


def test_a_purpose_without_a_choice_keeps_its_default() -> None:
    """A choice for one purpose says nothing about the others."""
    assert decide(fold([entry(granted=ANALYTICS)]), NONE, ESSENTIAL) == (ANALYTICS | ESSENTIAL, Basis.RECORDED)


def test_an_explicit_refusal_of_an_essential_purpose_counts() -> None:
    """Essential means allowed by default, not allowed against the person's word."""
    assert decide(fold([entry(denied=ESSENTIAL)]), NONE, ESSENTIAL) == (NONE, Basis.RECORDED)


def test_the_newest_choice_wins_in_whatever_order_it_arrives() -> None:
    """A choice that was made earlier and arrives later does not override the newer one."""
    first, second = entry(granted=ANALYTICS, at=1), entry(denied=ANALYTICS, at=2)
    assert granted_by(first, second) == granted_by(second, first) == NONE
    third = entry(granted=ANALYTICS, at=3)
    assert granted_by(third, first, second) == ANALYTICS


def test_choices_of_the_same_instant_are_refused() -> None:
    """Two contradicting choices at one instant: the refusal wins."""
    yes, no = entry(granted=ANALYTICS, at=5), entry(denied=ANALYTICS, at=5)
    assert granted_by(yes, no) == granted_by(no, yes) == NONE


def test_a_grant_dated_ahead_does_not_outlast_the_withdrawal_after_it() -> None:
    """A choice counts from when it was recorded at the latest, so a client's fast clock cannot cover a withdrawal."""
    ahead = entry(granted=ANALYTICS, at=60, recorded=10)
    assert granted_by(ahead, entry(denied=ANALYTICS, at=11)) == NONE


def test_preferences_that_take_nothing_leave_the_basis() -> None:
    """A decision is restricted only where something was taken away."""
    standing = fold([entry(granted=ANALYTICS)])
    assert decide(standing, MARKETING, NONE) == (ANALYTICS, Basis.RECORDED)
    assert decide(standing, ANALYTICS, ESSENTIAL) == (ESSENTIAL, Basis.RESTRICTED)
    assert decide(NOTHING_RECORDED, ALL, ESSENTIAL) == (NONE, Basis.RESTRICTED)


@given(st.lists(entries(), max_size=8), masks, masks, masks)
def test_preferences_never_add_a_purpose(some: list[Entry], essential: int, withheld: int, more: int) -> None:
    """Whatever a client presents, it gets at most what it would get without, and never more for presenting more."""
    standing = fold(some)
    freely, restricted = decide(standing, NONE, essential)[0], decide(standing, withheld, essential)[0]
    assert restricted & ~freely == NONE
    assert decide(standing, withheld | more, essential)[0] & ~restricted == NONE


@given(st.lists(entries(), max_size=8), st.randoms(use_true_random=False), st.integers(1, 4))
def test_merged_subjects_decide_as_one(some: list[Entry], chance: random.Random, parts: int) -> None:
    """Entries split over merged subjects, in any order, and some of them twice, stand as they would under one."""
    shares: list[list[Entry]] = [[] for _ in range(parts)]
    for each in chance.sample(some, len(some)):
        shares[chance.randrange(parts)].append(each)
    assert join([*map(fold, shares), fold(some[:1])]) == fold(some)


@given(st.lists(entries(), max_size=8), masks.filter(bool))
def test_a_withdrawal_that_is_not_older_always_holds(some: list[Entry], denied: int) -> None:
    """After a refusal at the newest moment, none of its purposes is granted."""
    withdrawal = entry(denied=denied, at=4)
    assert decide(fold([withdrawal], onto=fold(some)), NONE, ALL)[0] & denied == NONE


@given(st.lists(entries(), max_size=8))
def test_folding_step_by_step_equals_folding_at_once(some: list[Entry]) -> None:
    """What memory keeps up to date and what is rebuilt from the ledger are the same."""
    standing = NOTHING_RECORDED
    for each in some:
        standing = fold([each], onto=standing)
    assert standing == fold(some)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_each_purpose_is_decided_by_itself(purpose: int) -> None:
    """A refusal of one purpose leaves every other one granted."""
    everything, refusal = entry(granted=ALL, at=1), entry(denied=1 << purpose, at=2)
    assert granted_by(everything, refusal) == ALL & ~(1 << purpose)
