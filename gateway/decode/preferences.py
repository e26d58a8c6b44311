"""Consent that a client library presents with an event. What cannot be read refuses everything: this fails closed."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.decode.types import MALFORMED_PREFERENCES

_MOST_CATEGORIES: Final = 64
_MOST_CATEGORY_CHARS: Final = 256


def segment_preferences(consent: dict[str, Any]) -> Mapping[str, bool] | None:
    """Read Segment's `context.consent.categoryPreferences`; None when it is not there."""
    if "categoryPreferences" not in consent:
        return None
    return _checked(consent["categoryPreferences"])


def rudder_preferences(management: dict[str, Any]) -> Mapping[str, bool] | None:
    """Read RudderStack's `context.consentManagement`, the names that are allowed and denied; None: neither is there."""
    allowed, denied = management.get("allowedConsentIds"), management.get("deniedConsentIds")
    if allowed is None and denied is None:
        return None
    if not _are_names(allowed) or not _are_names(denied):
        return MALFORMED_PREFERENCES
    return _checked(dict.fromkeys(allowed or (), True) | dict.fromkeys(denied or (), False))


def join_preferences(first: Mapping[str, bool] | None, second: Mapping[str, bool] | None) -> Mapping[str, bool] | None:
    """Join two presented preferences: a category is refused when either refuses it."""
    if first is None or second is None:
        return second if first is None else first
    joined = {**first, **second}
    return _checked({name: first.get(name, True) and second.get(name, True) for name in joined})


def _checked(preferences: Any) -> Mapping[str, bool]:
    if type(preferences) is not dict or len(preferences) > _MOST_CATEGORIES:
        return MALFORMED_PREFERENCES
    if all(type(value) is bool and len(name) <= _MOST_CATEGORY_CHARS for name, value in preferences.items()):
        return preferences
    return MALFORMED_PREFERENCES


def _are_names(names: Any) -> bool:
    # Some consent managers give an object with the names as keys.
    return names is None or (isinstance(names, list | dict) and all(isinstance(name, str) for name in names))
