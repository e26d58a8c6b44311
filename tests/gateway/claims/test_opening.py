"""Opening the store of claims: what is wrong is said as the setting that mends it."""

from pathlib import Path

import pytest

from gateway.claims.opening import open_store
from gateway.claims.settings import ClaimsSettings
from mesh.settings import SettingsError, read_settings


async def test_sqlite_is_the_default_and_belongs_to_one_process(tmp_path: Path) -> None:
    """A second gateway on the same data directory is told so; without a directory each has its own."""
    store = await open_store(ClaimsSettings(), tmp_path)
    assert not store.keeps_claims
    assert (tmp_path / "gateway.db").exists()
    with pytest.raises(SettingsError, match=r"CLEW_DATA_DIR: .* in use by process"):
        await open_store(ClaimsSettings(), tmp_path)
    await store.close(settled=True)
    temporary = [await open_store(ClaimsSettings(), None) for _ in range(2)]
    assert temporary[0].owner != temporary[1].owner
    for each in temporary:
        await each.close(settled=True)


async def test_a_gateway_keeps_its_name_in_its_file(tmp_path: Path) -> None:
    """Its records of an earlier run are known as its own."""
    owners = []
    for _ in range(2):
        store = await open_store(ClaimsSettings(), tmp_path)
        owners.append(store.owner)
        await store.close(settled=True)
    assert owners[0] == owners[1]


async def test_a_database_that_cannot_be_reached_is_a_wrong_setting() -> None:
    """And its password is not in the message."""
    with pytest.raises(SettingsError, match="CLEW_DATABASE: PostgreSQL cannot be reached") as refused:
        await open_store(ClaimsSettings(database="postgresql://u:secret@127.0.0.1:1/x"), None)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("CLEW_DATABASE", "mysql://u:secret@h/x", "is no postgresql://"),
        ("CLEW_DEDUPE_WINDOW_HOURS", "23.9", "less than 24"),
        ("CLEW_DEDUPE_WINDOW_HOURS", "1e19", "CLEW_DEDUPE_WINDOW_HOURS: .* is not from"),
        ("CLEW_DEDUPE_MAX_ROWS", "0", "CLEW_DEDUPE_MAX_ROWS: 0 is not from 1"),
        ("CLEW_DEDUPE_MAX_ROWS", "99999999999999999999", "CLEW_DEDUPE_MAX_ROWS: .* is not from 1"),
        ("CLEW_LEDGER_DAYS", "0", "CLEW_LEDGER_DAYS: 0 is not from 1"),
        ("CLEW_LEDGER_DAYS", "99999999999999999999", "CLEW_LEDGER_DAYS: .* is not from 1"),
    ],
)
def test_what_would_forget_too_early_or_cannot_be_counted_is_refused(variable: str, value: str, problem: str) -> None:
    """At the start, and without a word of a secret."""
    with pytest.raises(SettingsError, match=problem) as refused:
        read_settings(ClaimsSettings, {variable: value})
    assert "secret" not in str(refused.value)
