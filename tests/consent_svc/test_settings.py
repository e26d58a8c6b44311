"""The settings of the process."""

import pytest

from consent_svc.categories import DEFAULT_CATEGORIES, parse_categories
from consent_svc.purpose import NONE, mask_of_names
from consent_svc.settings import ConsentSettings
from mesh.settings import SettingsError, read_settings


def test_defaults_allow_only_what_is_essential() -> None:
    """Without settings, the essential purpose is allowed by default and the usual category names are known."""
    policy = read_settings(ConsentSettings, {}).policy()
    assert policy.essential == mask_of_names(["essential"])
    assert policy.categories == parse_categories(DEFAULT_CATEGORIES)
    assert policy.categories.withheld({"Analytics": True}) == NONE


def test_an_operator_says_what_is_essential_and_what_categories_mean() -> None:
    """Both are read from the environment."""
    environ = {"CLEW_ESSENTIAL_PURPOSES": "essential, Analytics", "CLEW_CONSENT_CATEGORIES": "Fun=personalization"}
    policy = read_settings(ConsentSettings, environ).policy()
    assert policy.essential == mask_of_names(["essential", "analytics"])
    assert policy.categories.withheld({"fun": False}) == mask_of_names(["personalization"])


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CLEW_ESSENTIAL_PURPOSES", "essential,fun", "'fun' is no purpose; the purposes are essential, analytics"),
        ("CLEW_CONSENT_CATEGORIES", "Analytics", "'Analytics' is not of the form Name=purpose,purpose"),
        ("CLEW_CONSENT_CATEGORIES", "Analytics=fun", "'fun' is no purpose"),
        ("CLEW_CONSENT_CACHE_SUBJECTS", "0", "0 is below 1"),
    ],
)
def test_what_cannot_be_understood_is_refused(variable: str, value: str, message: str) -> None:
    """The refusal names the variable and what is wrong with it."""
    with pytest.raises(SettingsError, match=f"{variable}: .*{message}"):
        read_settings(ConsentSettings, {variable: value})
