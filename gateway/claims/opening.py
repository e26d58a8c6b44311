"""Which store the claims are kept in."""

from pathlib import Path

from gateway.claims.limits import Limits
from gateway.claims.port import ClaimStore
from gateway.claims.settings import ClaimsSettings
from gateway.claims.sqlite import SqliteClaims
from mesh.errors import StorageUnavailable
from mesh.settings import SettingsError
from mesh.sqlite import MigrationError


async def open_store(settings: ClaimsSettings, data_dir: Path | None) -> ClaimStore:
    """Open the store that the settings name; without a data directory a temporary one.

    Raises:
        SettingsError: It cannot be opened: another process owns the file, the database cannot be reached, its schema is
            not ours, or its driver is not installed. The message says which, and what to do.
    """
    limits = Limits(settings.window_hours, settings.max_rows, settings.ledger_days)
    try:
        if settings.database:
            return await _open_postgres(settings.database, limits)
        return await SqliteClaims.open(data_dir / "gateway.db" if data_dir else None, limits)
    except (StorageUnavailable, MigrationError) as error:
        reason = error.detail if isinstance(error, StorageUnavailable) else str(error)
        if settings.database:
            raise SettingsError([f"CLEW_DATABASE: {reason}. Start it, or set another one."]) from error
        raise SettingsError([f"CLEW_DATA_DIR: {reason}. Stop the other process or set another directory."]) from error


async def _open_postgres(url: str, limits: Limits) -> ClaimStore:
    try:
        from gateway.claims.postgres import PostgresClaims  # noqa: PLC0415 - its driver is an extra
    except ModuleNotFoundError as error:
        raise SettingsError(["CLEW_DATABASE: PostgreSQL needs its driver: pip install 'clew[postgres]'"]) from error
    return await PostgresClaims.open(url, limits)
