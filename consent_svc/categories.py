"""What a client library calls its consent categories, mapped to purposes.

Segment sends `context.consent.categoryPreferences`: a name that the customer chose for each category, and whether it
is allowed. Such preferences come from a client that proves nothing, so they can only take purposes away.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from consent_svc.purpose import ALL, NONE, mask_of_names

# The names that Segment's, OneTrust's, Cookiebot's and RudderStack's guides use, and Google's consent mode.
DEFAULT_CATEGORIES = (
    "Necessary=essential;Strictly Necessary=essential;Essential=essential;"
    "C0001=essential;security_storage=essential;"
    "Analytics=analytics;Performance=analytics;Statistics=analytics;"
    "C0002=analytics;analytics_storage=analytics;"
    "Functional=personalization;Preferences=personalization;Personalization=personalization;"
    "C0003=personalization;functionality_storage=personalization;personalization_storage=personalization;"
    "Marketing=marketing,advertising;Advertising=marketing,advertising;Targeting=marketing,advertising;"
    "C0004=marketing,advertising;"
    "Social Media=advertising;DataSharing=advertising;"
    "C0005=advertising;ad_storage=advertising;ad_user_data=advertising;"
    "ad_personalization=advertising,personalization"
)


@dataclass(frozen=True, slots=True)
class CategoryMap:
    """Which purposes stand behind each category name; names are compared without regard to case and outer spaces."""

    purposes_of: Mapping[str, int]

    def withheld(self, preferences: Mapping[str, bool]) -> int:
        """Return the purposes that presented preferences take away.

        A false category takes its purposes; a false one that no purpose is configured for takes all, because nobody
        knows what the person refused. True ones give and take nothing.
        """
        mask = NONE
        for name, allowed in preferences.items():
            if not allowed:
                mask |= self.purposes_of.get(_normal(name), ALL)
        return mask


def parse_categories(text: str) -> CategoryMap:
    """Read a mapping written `Name=purpose,purpose;Name=purpose`. An empty text maps no name.

    Raises:
        ValueError: an entry has no `=`, no name, no purpose, an unknown purpose, or a name that came before.
    """
    purposes_of: dict[str, int] = {}
    for entry in filter(str.strip, text.split(";")):
        name, mask = _parse_entry(entry.strip())
        if name in purposes_of:
            raise ValueError(f"the category '{name}' is named twice (case does not distinguish names)")
        purposes_of[name] = mask
    return CategoryMap(purposes_of)


def _parse_entry(entry: str) -> tuple[str, int]:
    # The last `=`: purposes hold none, a customer's category name may.
    name, equals, purposes = entry.rpartition("=")
    if not equals or not name.strip():
        raise ValueError(f"'{entry}' is not of the form Name=purpose,purpose")
    if not purposes.strip():
        raise ValueError(f"'{entry}' names no purpose: a refusal of it would take nothing away")
    try:
        return _normal(name), mask_of_names(purposes.split(","))
    except ValueError as error:
        raise ValueError(f"in '{entry}': {error}") from error


def _normal(name: str) -> str:
    return name.strip().casefold()
