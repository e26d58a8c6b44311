"""What the process can be told, read in one place."""

from dataclasses import dataclass

from mesh.server import ServerSettings
from mesh.settings import setting

_MOST_ENTRIES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrichSettings:
    """The settings of the enrich service."""

    server: ServerSettings
    cache_entries: int = setting(
        "CLEW_ENRICH_CACHE_ENTRIES",
        default=8192,
        help="How many user agents, addresses, locales and pairs of pages are remembered, each; 1 KiB of text at most.",
    )

    def __post_init__(self) -> None:
        """Refuse a size that no cache can have."""
        if not 1 <= self.cache_entries <= _MOST_ENTRIES:
            raise ValueError(
                f"CLEW_ENRICH_CACHE_ENTRIES: {self.cache_entries} is not from 1 to {_MOST_ENTRIES};"
                " leave it out for the default"
            )
