"""Which store the settings ask for, and what is said when it cannot be opened."""

import sys
from pathlib import Path

import pytest

from gateway.admin.opening import open_store
from gateway.admin.store import SqliteSourceStore
from gateway.claims.settings import ClaimsSettings
from gateway.settings import GatewaySettings
from mesh.settings import SettingsError, read_settings

SERVICES = {"CLEW_IDENTITY": "h:1", "CLEW_CONSENT": "h:1", "CLEW_ENRICH": "h:1"}


async def test_without_a_database_it_is_a_file_in_the_data_directory(tmp_path: Path) -> None:
    """One gateway owns it: a second one says which variable to change."""
    store = await open_store("", tmp_path)
    assert isinstance(store, SqliteSourceStore)
    assert (tmp_path / "sources.db").exists()
    with pytest.raises(SettingsError, match=r"CLEW_DATA_DIR.*is in use by process"):
        await open_store("", tmp_path)
    await store.close()


async def test_without_a_directory_nothing_is_kept() -> None:
    """As the settings say: a file that goes when the gateway does."""
    store = await open_store("", None)
    await store.close()


async def test_a_database_may_be_shared(postgres_url: str) -> None:
    """By as many gateways as there are."""
    stores = [await open_store(postgres_url, None) for _ in range(2)]
    assert [store.shared for store in stores] == [True, True]
    for store in stores:
        await store.close()


async def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    """With what to do."""
    reached = r"CLEW_DATABASE: PostgreSQL cannot be reached.*Start the database"
    with pytest.raises(SettingsError, match=reached) as caught:
        await open_store("postgresql://clew:s3cret@127.0.0.1:1/clew", None)
    assert "s3cret" not in str(caught.value)


async def test_without_asyncpg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core install does without it."""
    # As after an install without the extra: the import fails, and nothing was imported before.
    for name in [name for name in sys.modules if name.startswith(("mesh.postgres", "gateway.admin.store.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(SettingsError, match="asyncpg is not installed; install clew with the extra `postgres`"):
        await open_store("postgresql://127.0.0.1/clew", None)


def test_the_address_of_a_database_is_checked_and_not_shown() -> None:
    """A wrong one may hold a password all the same."""
    with pytest.raises(SettingsError, match="CLEW_DATABASE: its value is no postgresql") as caught:
        read_settings(ClaimsSettings, {"CLEW_DATABASE": "mysql://clew:s3cret@db/clew"})
    assert "s3cret" not in str(caught.value)


def test_the_sources_file_may_be_left_out() -> None:
    """All sources are then kept in the store."""
    assert read_settings(GatewaySettings, SERVICES).sources_file is None
