"""Where the identity graph is kept."""

from identity_svc.store.port import IdentityStore
from identity_svc.store.sqlite import DEFAULT_CACHE_SIZE, SqliteIdentityStore

__all__ = ["DEFAULT_CACHE_SIZE", "IdentityStore", "SqliteIdentityStore"]
