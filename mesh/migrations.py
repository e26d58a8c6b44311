"""Numbered migrations: files `NNNN_name.sql`, applied once each, in order, never edited after they were applied.

How they are applied is each database's own: `mesh.sqlite.migrations`, `mesh.postgres.migrations`.
"""

import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from importlib.resources.abc import Traversable

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class MigrationError(Exception):
    """The migrations cannot be read or applied, or the database was made by other ones than those at hand.

    It is no `ClewError`: it stops a process from starting, and no client ever sees it.
    """


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text, kept beside the version so that an edited migration is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(source: str | Traversable) -> list[Migration]:
    """Read all migrations of a package (by its dotted name) or a directory, in order.

    Raises:
        MigrationError: a `.sql` file is not named `NNNN_name.sql`, or the numbers are not 1, 2, 3, ... without a gap.
    """
    folder = importlib.resources.files(source) if isinstance(source, str) else source
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    migrations = [_load(entry) for entry in files]
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(f"migration {expected:04d} is missing: found {migration.version:04d}_{migration.name}")
    return migrations


def _load(entry: Traversable) -> Migration:
    match = _FILE_NAME.fullmatch(entry.name)
    if match is None:
        raise MigrationError(f"{entry.name} is not named NNNN_name.sql")
    return Migration(version=int(match[1]), name=match[2], sql=entry.read_text(encoding="utf-8"))
