"""Which store the claims are kept in."""

from pathlib import Path

from gateway.claims.limits import Limits
from gateway.claims.port import ClaimStore
from gateway.claims.settings import ClaimsSettings
from gateway.claims.sqlite import SqliteClaims
from mesh.settings import SettingsError


async def open_store(settings: ClaimsSettings, data_dir: Path | None) -> ClaimStore:
    """Open the store that the settings name; without a data directory a temporary one.

    Raises:
        SettingsError: PostgreSQL is asked for and its driver is not installed.
        StorageUnavailable: The store cannot be reached, or another process owns it.
        MigrationError: Its schema cannot be brought up to date.
    """
    limits = Limits(settings.window_hours, settings.max_rows, settings.ledger_days)
    if not settings.database:
        return await SqliteClaims.open(data_dir / "gateway.db" if data_dir else None, limits)
    try:
        from gateway.claims.postgres import PostgresClaims  # noqa: PLC0415 - its driver is an extra
    except ModuleNotFoundError as error:
        raise SettingsError(["CLEW_DATABASE: PostgreSQL needs the driver: pip install 'clew[postgres]'"]) from error
    return await PostgresClaims.open(settings.database, limits)
