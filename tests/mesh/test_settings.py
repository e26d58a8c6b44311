"""Settings from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from mesh.settings import SettingRow, SettingsError, describe_settings, read_settings, setting


@dataclass(frozen=True, slots=True)
class Inner:
    """A part of the settings."""

    size: int = setting("T_SIZE", default=3, help="Size.")


@dataclass(frozen=True, slots=True)
class Sample:
    """One field of each type."""

    inner: Inner
    name: str = setting("T_NAME", help="Name.")
    rate: float = setting("T_RATE", default=0.5, help="Rate.")
    on: bool = setting("T_ON", default=True, help="On.")
    path: Path | None = setting("T_PATH", default=None, help="Path.")
    tags: tuple[str, ...] = setting("T_TAGS", default=("a", "b"), help="Tags.")
    level: Literal["low", "high"] = setting("T_LEVEL", default="low", help="Level.")
    secret: int = setting("T_SECRET", default=0, help="Secret.", secret=True)

    def __post_init__(self) -> None:
        """A rule over several fields."""
        if self.level == "high" and self.rate > 1:
            raise ValueError("T_RATE: must be at most 1 when T_LEVEL is high")


def test_all_types() -> None:
    """Each type is read from text, nested settings included."""
    environ = {
        "T_NAME": "x",
        "T_RATE": "2.5",
        "T_ON": "off",
        "T_PATH": "/data",
        "T_TAGS": " one, two ,,",
        "T_LEVEL": "low",
        "T_SECRET": "7",
        "T_SIZE": "9",
    }
    expected = Sample(Inner(9), "x", 2.5, on=False, path=Path("/data"), tags=("one", "two"), level="low", secret=7)
    assert read_settings(Sample, environ) == expected


def test_defaults_hold_for_absent_and_empty_variables() -> None:
    """An empty variable counts as absent."""
    assert read_settings(Sample, {"T_NAME": "x", "T_RATE": "", "T_SIZE": ""}) == Sample(Inner(3), "x")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment the process's own is read."""
    monkeypatch.setenv("T_SIZE", "12")
    assert read_settings(Inner).size == 12


def test_all_problems_at_once() -> None:
    """One error names every variable that is wrong, its value, and what to do."""
    environ = {"T_RATE": "fast", "T_ON": "maybe", "T_LEVEL": "mid", "T_SIZE": "1.5"}
    with pytest.raises(SettingsError) as caught:
        read_settings(Sample, environ)
    assert caught.value.problems == [
        "T_SIZE: '1.5' is no whole number; use digits only. Size.",
        "T_NAME: is required and not set; set it. Name.",
        "T_RATE: 'fast' is no number; write it like 2.5. Rate.",
        "T_ON: 'maybe' is neither true nor false; use true or false. On.",
        "T_LEVEL: 'mid' is none of low, high; use one of them. Level.",
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_numbers_are_finite(text: str) -> None:
    """No setting is infinite or no number at all."""
    with pytest.raises(SettingsError, match="no finite number"):
        read_settings(Sample, {"T_NAME": "x", "T_RATE": text})


@pytest.mark.parametrize("variable", ["T_NAME", "T_TAGS"])
def test_text_is_utf_8(variable: str) -> None:
    """Bytes that are no UTF-8 could be put into no message; a path may hold any."""
    with pytest.raises(SettingsError, match=rf"{variable}: .* is not UTF-8"):
        read_settings(Sample, {"T_NAME": "x", variable: os.fsdecode(b"caf\xe9")})
    path = os.fsdecode(b"/data/caf\xe9")
    assert read_settings(Sample, {"T_NAME": "x", "T_PATH": path}).path == Path(path)


def test_secrets_are_not_shown() -> None:
    """The value of a secret is not in the message, even when it is wrong."""
    with pytest.raises(SettingsError, match="its value is no whole number") as caught:
        read_settings(Sample, {"T_NAME": "x", "T_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_rules_over_several_fields() -> None:
    """What the dataclass itself refuses is a problem like any other."""
    with pytest.raises(SettingsError, match="T_RATE: must be at most 1"):
        read_settings(Sample, {"T_NAME": "x", "T_RATE": "2", "T_LEVEL": "high"})


def test_description() -> None:
    """Documentation is generated from the declaration."""
    rows = describe_settings(Sample)
    assert rows[:3] == [
        SettingRow("T_SIZE", "int", "3", "Size."),
        SettingRow("T_NAME", "str", None, "Name."),
        SettingRow("T_RATE", "float", "0.5", "Rate."),
    ]
    assert [(row.type, row.default) for row in rows[3:7]] == [
        ("bool", "true"),
        ("path", ""),
        ("list", "a,b"),
        ("low | high", "low"),
    ]
