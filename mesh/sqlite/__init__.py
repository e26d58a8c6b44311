"""SQLite for one owning process: WAL, one writer thread with group commit, direct reads, numbered migrations."""

from mesh.sqlite.database import Database
from mesh.sqlite.migrations import MigrationError

__all__ = ["Database", "MigrationError"]
