"""What the identity process can be told."""

from dataclasses import dataclass
from pathlib import Path

from identity_svc.store import DEFAULT_CACHE_SIZE
from mesh.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Whose tokens these are, who may ask for them, and how much of the graph stays in memory."""

    issuer: str = setting("CLEW_ISSUER", default="https://clew.local", help="Issuer named in the tokens, a URL.")
    clients_file: Path | None = setting(
        "CLEW_CLIENTS_FILE",
        default=None,
        help="JSON list of clients that may ask for tokens: client_id, secret_sha256, scopes; empty: nobody may.",
    )
    cache_size: int = setting(
        "CLEW_IDENTITY_CACHE_SIZE",
        default=DEFAULT_CACHE_SIZE,
        help="Identifiers kept in memory at most, 1000 or more; about 0.5 KB each.",
    )

    def __post_init__(self) -> None:
        if self.cache_size < 1_000:
            raise ValueError(f"CLEW_IDENTITY_CACHE_SIZE: {self.cache_size} is too small; use 1000 or more")
