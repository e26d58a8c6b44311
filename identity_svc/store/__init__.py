"""Where the identity graph is kept."""

from identity_svc.store.port import IdentityStore
from identity_svc.store.sqlite import SqliteIdentityStore

__all__ = ["IdentityStore", "SqliteIdentityStore"]
