"""Where the ledger is kept: the port, and the adapters that one contract suite runs on."""

from consent_svc.store.port import ConsentStore
from consent_svc.store.sqlite import SqliteConsentStore

__all__ = ["ConsentStore", "SqliteConsentStore"]
