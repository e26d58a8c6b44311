"""Categories that client libraries present, mapped to purposes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent_svc.categories import DEFAULT_CATEGORIES, parse_categories
from consent_svc.purpose import ALL, NONE, mask_of_names

DEFAULTS = parse_categories(DEFAULT_CATEGORIES)


@pytest.mark.parametrize(
    ("preferences", "withheld"),
    [
        ({}, NONE),
        ({"Analytics": True, "Advertising": True}, NONE),
        ({"Analytics": False}, mask_of_names(["analytics"])),
        ({"Advertising": False}, mask_of_names(["advertising", "marketing"])),
        ({"C0002": False, "C0003": False}, mask_of_names(["analytics", "personalization"])),
        ({"Analytics": True, "Performance": False}, mask_of_names(["analytics"])),
        ({"Strictly Necessary": False}, mask_of_names(["essential"])),
    ],
)
def test_false_categories_take_their_purposes(preferences: dict[str, bool], withheld: int) -> None:
    """A false category withholds its purposes, whatever a true one that shares them says; true ones do nothing."""
    assert DEFAULTS.withheld(preferences) == withheld


def test_a_refused_category_that_nobody_knows_takes_everything() -> None:
    """Nobody knows what the person refused, so nothing is left."""
    assert DEFAULTS.withheld({"Quantum Tracking": False}) == ALL
    assert DEFAULTS.withheld({"": False}) == ALL


def test_an_allowed_category_that_nobody_knows_takes_nothing() -> None:
    """What was allowed restricts nothing, known or not."""
    assert DEFAULTS.withheld({"Quantum Tracking": True}) == NONE


def test_names_are_compared_without_regard_to_case_and_outer_spaces() -> None:
    """Libraries differ in how they write the same category."""
    assert DEFAULTS.withheld({" aNALYTICS ": False}) == mask_of_names(["analytics"])
    assert parse_categories("STRASSE=analytics").withheld({"Straße": False}) == mask_of_names(["analytics"])


@given(st.dictionaries(st.text(max_size=20), st.booleans(), max_size=8), st.text(max_size=20), st.booleans())
def test_more_preferences_never_withhold_less(preferences: dict[str, bool], name: str, allowed: bool) -> None:
    """Whatever else a client presents, what was withheld before stays withheld."""
    before = DEFAULTS.withheld({key: value for key, value in preferences.items() if key != name})
    assert before & ~DEFAULTS.withheld({**preferences, name: allowed}) == NONE or preferences.get(name) is False


def test_a_configured_mapping_replaces_the_default_one() -> None:
    """An operator's mapping stands alone; a trailing separator and spaces are allowed."""
    categories = parse_categories(" Tracking = analytics , marketing ; A=B=advertising; ")
    assert categories.withheld({"tracking": False}) == mask_of_names(["analytics", "marketing"])
    assert categories.withheld({"A=B": False}) == mask_of_names(["advertising"])
    assert categories.withheld({"Analytics": False}) == ALL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Analytics", "'Analytics' is not of the form"),
        ("=analytics", "'=analytics' is not of the form"),
        ("Analytics=", "'Analytics=' names no purpose"),
        ("Analytics=analytics,", "'' is no purpose"),
        ("Analytics=spying", "in 'Analytics=spying': 'spying' is no purpose; the purposes are essential"),
        ("Ads=marketing;ADS=advertising", "the category 'ads' is named twice"),
    ],
)
def test_a_malformed_mapping_is_refused(text: str, message: str) -> None:
    """What cannot be understood is refused with the entry that it stands in."""
    with pytest.raises(ValueError, match=message):
        parse_categories(text)
