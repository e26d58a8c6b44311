"""Settings: frozen dataclasses that are read from the environment in one place.

    @dataclass(frozen=True, slots=True)
    class StoreSettings:
        '''Where the store keeps its data.'''

        path: Path = setting("CLEW_STORE_PATH", help="Database file.")
        cache_mib: int = setting("CLEW_STORE_CACHE_MIB", default=64, help="Page cache, MiB.")

A field whose type is itself such a dataclass is read along with it. A dataclass may check values in `__post_init__` by
raising ValueError.
"""

import dataclasses
import os
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_KEY: Final = "clew_setting"


class SettingsError(Exception):
    """The environment does not hold what a process needs.

    Args:
        problems: What is wrong, one line for each variable, naming the variable and what to do.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclasses.dataclass(frozen=True, slots=True)
class SettingRow:
    """One variable, as documentation shows it; `default` is None when the variable is required."""

    variable: str
    type: str
    default: str | None
    help: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Setting:
    """What `setting` leaves in a field's metadata."""

    variable: str
    help: str
    secret: bool


def setting(
    variable: str,
    *,
    default: Any = dataclasses.MISSING,
    help: str,  # noqa: A002 - the word that command line tools use for it
    secret: bool = False,
) -> Any:
    """Declare a field that is read from an environment variable.

    Args:
        variable: Its name.
        default: Its value when the variable is absent or empty; without one the variable is required.
        help: One line that says what it is, with unit and range.
        secret: Never show the value, not even a wrong one.
    """
    return dataclasses.field(default=default, metadata={_KEY: _Setting(variable, help, secret)})


def read_settings(cls: type[T], environ: Mapping[str, str] | None = None) -> T:
    """Read a settings dataclass from the environment.

    Raises:
        SettingsError: Variables are missing or hold what they cannot; it names all of them at once.
    """
    problems: list[str] = []
    settings = _read(cls, os.environ if environ is None else environ, problems)
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def check_range(variable: str, value: float, least: float, most: float) -> None:
    """For `__post_init__`: refuse a number that is out of its range.

    Raises:
        ValueError: It is; the message names the variable and the range.
    """
    if not least <= value <= most:
        raise ValueError(f"{variable}: {value} is not from {least} to {most}")


def describe_settings(cls: type[Any]) -> list[SettingRow]:
    """List the variables that a settings dataclass reads, in order of declaration."""
    rows: list[SettingRow] = []
    for field, hint in _fields(cls):
        declared = field.metadata.get(_KEY)
        if declared is None:
            rows.extend(describe_settings(hint))
        else:
            rows.append(SettingRow(declared.variable, _type_name(hint), _default_text(field), declared.help))
    return rows


def _fields(cls: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if _KEY in field.metadata or dataclasses.is_dataclass(hints[field.name]):
            yield field, hints[field.name]


def _read(cls: type[T], environ: Mapping[str, str], problems: list[str]) -> T | None:
    """Read one dataclass; None, with the problems noted, when it cannot be built."""
    before = len(problems)
    values: dict[str, Any] = {}
    for field, hint in _fields(cls):
        declared = field.metadata.get(_KEY)
        if declared is None:
            values[field.name] = _read(hint, environ, problems)
            continue
        try:
            values[field.name] = _value(field, declared, hint, environ.get(declared.variable, ""))
        except ValueError as error:
            problems.append(f"{declared.variable}: {error}. {declared.help}")
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ValueError as error:
        problems.append(str(error))
        return None


def _value(field: dataclasses.Field[Any], declared: _Setting, hint: Any, text: str) -> Any:
    """The field's value. An empty variable counts as absent, because compose files cannot leave one out."""
    if not text:
        if field.default is dataclasses.MISSING:
            raise ValueError("is required and not set; set it")
        return field.default
    try:
        return _parser(hint)(text)
    except ValueError as error:
        shown = "its value" if declared.secret else repr(text)
        raise ValueError(f"{shown} {error}") from None


def _parser(hint: Any) -> Callable[[str], Any]:
    """What reads a value of this type, or raises ValueError with the end of a sentence that begins with the value."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
        return _parser(inner)
    if origin is Literal:
        return lambda text: _choice(text, get_args(hint))
    if origin is tuple:
        return lambda text: tuple(part.strip() for part in _text(text).split(",") if part.strip())
    parsers: dict[Any, Callable[[str], Any]] = {str: _text, Path: Path, bool: _bool, int: _int, float: _float}
    return parsers[hint]


def _choice(text: str, choices: tuple[Any, ...]) -> str:
    if text not in choices:
        raise ValueError(f"is none of {', '.join(choices)}; use one of them")
    return text


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # How Python keeps bytes that it cannot decode; no message could carry them.
        raise ValueError("is not UTF-8; write it in UTF-8") from None
    return text


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("is neither true nor false; use true or false")
    return word in _TRUE


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is no whole number; use digits only") from None


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is no number; write it like 2.5") from None
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN is what differs from itself
        raise ValueError("is no finite number; write it like 2.5")
    return number


def _type_name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _type_name(next(arg for arg in get_args(hint) if arg is not type(None)))
    if origin is Literal:
        return " | ".join(get_args(hint))
    return "list" if origin is tuple else str(hint.__name__).lower()


def _default_text(field: dataclasses.Field[Any]) -> str | None:
    if field.default is dataclasses.MISSING:
        return None
    match field.default:
        case None:
            return ""
        case bool():
            return str(field.default).lower()
        case tuple():
            return ",".join(field.default)
        case _:
            return str(field.default)
