"""What can be set about the spool, and what the gateway says about values that cannot be used."""

from pathlib import Path

import pytest

from gateway.spool.forward import open_spool
from gateway.spool.settings import SpoolSettings
from mesh.settings import SettingsError, read_settings


def names(directory: Path) -> list[str]:
    """What is in it."""
    return [path.name for path in directory.iterdir()]


async def test_there_is_none_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Nothing is made on disk."""
    assert await open_spool(read_settings(SpoolSettings, {}), tmp_path) is None
    assert names(tmp_path) == []


async def test_it_is_kept_in_the_data_directory(tmp_path: Path) -> None:
    """Bounded as the settings say, with segments of at most 8 MiB and at least eight of them."""
    spool = await open_spool(read_settings(SpoolSettings, {"CLEW_SPOOL_MIB": "4"}), tmp_path)
    assert spool is not None
    assert names(tmp_path) == ["spool"]
    await spool.close()
    assert SpoolSettings(mib=4).bounds.segment_bytes == 512 << 10  # type: ignore[union-attr]
    assert SpoolSettings(mib=4_096).bounds.segment_bytes == 8 << 20  # type: ignore[union-attr]


async def test_it_needs_a_directory() -> None:
    """Events that are acknowledged must not be kept in a place that goes with the process."""
    with pytest.raises(SettingsError, match="CLEW_DATA_DIR"):
        await open_spool(SpoolSettings(mib=1), None)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLEW_SPOOL_MIB", "-1"),
        ("CLEW_SPOOL_HOURS", "0"),
        ("CLEW_SPOOL_PATIENCE_SECONDS", "0.4"),
        ("CLEW_SPOOL_PATIENCE_SECONDS", "31"),
    ],
)
def test_what_cannot_be_used_is_named(variable: str, value: str) -> None:
    """By its variable, before anything starts."""
    with pytest.raises(SettingsError, match=variable):
        read_settings(SpoolSettings, {variable: value})
