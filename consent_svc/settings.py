"""What the process can be told, read in one place."""

from collections.abc import Callable
from dataclasses import dataclass

from consent_svc.categories import DEFAULT_CATEGORIES, CategoryMap, parse_categories
from consent_svc.consents import Policy
from consent_svc.purpose import mask_of_names
from mesh.settings import setting


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    """The consent service's own settings; those of every server are `mesh.server.ServerSettings`.

    What cannot be understood stops the process: a category that meant nothing would let refusals pass.
    """

    essential_purposes: tuple[str, ...] = setting(
        "CLEW_ESSENTIAL_PURPOSES",
        default=("essential",),
        help="Purposes that are allowed as long as a person's choice for them is unknown, separated by commas.",
    )
    categories: str = setting(
        "CLEW_CONSENT_CATEGORIES",
        default=DEFAULT_CATEGORIES,
        help="What the consent categories of client libraries stand for: Name=purpose,purpose;Name=purpose.",
    )
    cache_subjects: int = setting(
        "CLEW_CONSENT_CACHE_SUBJECTS",
        default=100_000,
        help="How many people's consent is kept in memory; about 400 bytes each.",
    )

    def __post_init__(self) -> None:
        _checked("CLEW_ESSENTIAL_PURPOSES", self.essential_mask)
        _checked("CLEW_CONSENT_CATEGORIES", self.category_map)
        if self.cache_subjects < 1:
            raise ValueError(f"CLEW_CONSENT_CACHE_SUBJECTS: {self.cache_subjects} is below 1. Use 1 or more.")

    def essential_mask(self) -> int:
        """Return the purposes that are allowed by default, as a mask."""
        return mask_of_names(self.essential_purposes)

    def category_map(self) -> CategoryMap:
        """Return the mapping of categories to purposes."""
        return parse_categories(self.categories)

    def policy(self) -> Policy:
        """Return what the operator decided."""
        return Policy(self.essential_mask(), self.category_map())


def _checked(variable: str, read: Callable[[], object]) -> None:
    try:
        read()
    except ValueError as error:
        raise ValueError(f"{variable}: {error}. Correct it, or leave it out for the default.") from error
