"""The store that the settings ask for."""

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.admin.store import SourceStore, SqliteSourceStore
from mesh.errors import StorageUnavailable
from mesh.migrations import MigrationError
from mesh.settings import SettingsError

if TYPE_CHECKING:
    from gateway.admin.store.postgres import PostgresSourceStore

FILE = "sources.db"


async def open_store(database: str, data_dir: Path | None) -> SourceStore:
    """Open the PostgreSQL database when one is named, else a SQLite file in the directory, else a temporary one.

    Raises:
        SettingsError: It cannot be opened; the message says what to set or to start.
    """
    if database:
        return await _open_postgres(database)
    try:
        return SqliteSourceStore.open(data_dir / FILE if data_dir else None)
    except (StorageUnavailable, MigrationError) as error:
        raise SettingsError(
            [f"CLEW_DATA_DIR: {_reason(error)}. Stop the other process or set another directory."]
        ) from error


async def _open_postgres(database: str) -> "PostgresSourceStore":
    try:
        # Only where it is needed: the core install comes without asyncpg.
        from gateway.admin.store.postgres import PostgresSourceStore  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            [f"CLEW_DATABASE: {error.name} is not installed; install clew with the extra `postgres`."]
        ) from error
    try:
        return await PostgresSourceStore.open(database)
    except (StorageUnavailable, MigrationError) as error:
        raise SettingsError([f"CLEW_DATABASE: {_reason(error)}. Start the database or set another one."]) from error


def _reason(error: StorageUnavailable | MigrationError) -> str:
    return error.detail if isinstance(error, StorageUnavailable) else str(error)
