"""Where sources are kept: the port, and the adapters that one contract suite runs on."""

from gateway.admin.store.port import SourceStore, Written
from gateway.admin.store.sqlite import SqliteSourceStore

__all__ = ["SourceStore", "SqliteSourceStore", "Written"]
