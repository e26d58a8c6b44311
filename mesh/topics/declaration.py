"""What topics are declared to be: read, completed by defaults, checked.

A declaration is a table as TOML or JSON gives it:

    defaults: {replicas, config}
    topics: name -> {summary, value, key, headers, partitions, replicas?, config, outlives?}
    headers: name -> what it holds

`config` holds Kafka's own names of a topic's configuration. Of its values, those that end in `.ms` may be written like
30s, 15m, 12h, 7d, and those that end in `.bytes` like 64MiB; -1 is Kafka's word for no limit.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Table = Mapping[str, Any]

_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_AMOUNT: Final = re.compile(r"([0-9]{1,18})([A-Za-z]*)")
# What an operator's own file may say; the rest is the contract's.
_OPERATIONAL: Final = frozenset({"partitions", "replicas", "config"})
_TOPIC_KEYS: Final = _OPERATIONAL | {"summary", "value", "key", "headers", "outlives"}
_POLICY: Final = "cleanup.policy"
_LISTS: Final = frozenset({_POLICY})
_RETENTION: Final = "retention.ms"
_LAG: Final = "min.compaction.lag.ms"
_MOST_PARTITIONS: Final = 10_000


class DeclarationError(ValueError):
    """The declaration cannot be used; the message says where and what to write."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One declared topic.

    Attributes:
        name: Its full name.
        summary: What stands on it, for people.
        value: Full name of the value's message.
        key: The field of the value whose text is the record's key.
        headers: The names of its records' headers.
        partitions: How many it is created with, 1 to 10,000.
        replicas: Copies of each partition, 1 or more.
        config: Kafka's names and values, as brokers write them.
        outlives: A topic whose records need this one's. These are compacted after twice its retention at the earliest,
            since brokers delete late, and deleted no earlier. Empty: none.
    """

    name: str
    summary: str
    value: str
    key: str
    headers: tuple[str, ...]
    partitions: int
    replicas: int
    config: Mapping[str, str]
    outlives: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """All topics, in order, and what the headers of their records hold."""

    topics: tuple[Topic, ...]
    headers: Mapping[str, str]


def read_declaration(table: Table) -> Declaration:
    """Check a table and complete it by its defaults.

    Raises:
        DeclarationError: Something is missing, unknown or out of range.
    """
    _only(table, {"defaults", "topics", "headers"}, "the file")
    headers = _table(table.get("headers", {}), "headers")
    defaults = _table(table.get("defaults", {}), "defaults")
    _only(defaults, {"partitions", "replicas", "config"}, "defaults")
    named = {name for topic in table.get("topics", {}).values() for name in topic.get("headers", ())}
    if unknown := named - set(headers):
        raise DeclarationError(f"headers: {', '.join(sorted(unknown))} is not described; add a line to [headers]")
    everywhere = [name for name in headers if name not in named]
    topics = tuple(
        _topic(name, _table(topic, name), defaults, [h for h in headers if h in everywhere or h in topic["headers"]])
        for name, topic in _table(table.get("topics", {}), "topics").items()
    )
    _check_lifetimes({topic.name: topic for topic in topics})
    return Declaration(topics, dict(headers))


def read_overlay(path: Path, base: Table) -> Table:
    """An operator's TOML file over a declaration: other partitions, replicas or configuration of the same topics.

    Raises:
        DeclarationError: It cannot be read, or says something else.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeclarationError(f"{path} cannot be read: {error}") from error
    _only(table, {"defaults", "topics"}, str(path))
    topics = dict(base["topics"])
    for name, changes in _table(table.get("topics", {}), "topics").items():
        if name not in topics:
            raise DeclarationError(f"{path}: there is no topic {name}; there are: {', '.join(sorted(topics))}")
        _only(_table(changes, name), _OPERATIONAL, f"{path}: {name}")
        topics[name] = _merged(topics[name], changes)
    defaults = _table(table.get("defaults", {}), f"{path}: defaults")
    _check_effect(defaults, base["topics"], table.get("topics", {}), f"{path}: defaults")
    return {**base, "defaults": _merged(base.get("defaults", {}), defaults), "topics": topics}


def _check_effect(defaults: Table, base: Table, ours: Table, where: str) -> None:
    """Refuse a default that topics overrule: whoever wrote it for all of them would believe that it holds.

    Raises:
        DeclarationError: There is one; the message names the topics.
    """
    config = _table(defaults.get("config", {}), f"{where}.config")
    for name in (*sorted(defaults.keys() - {"config"}), *config):
        own = [topic for topic, said in base.items() if _says(said, name) and not _says(ours.get(topic, {}), name)]
        if own:
            raise DeclarationError(f"{where}: {name}: {', '.join(own)} would keep their own; write it for each of them")


def _says(topic: Table, name: str) -> bool:
    return name in topic or name in topic.get("config", {})


def config_value(name: str, value: object) -> str:
    """A value of the configuration as brokers write it.

    Raises:
        DeclarationError: It has no such form.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        raise DeclarationError(f"{name}: a table is no value; put quotes around a name that has dots")
    # Brokers take blanks around the items of a list, and give them back without.
    if isinstance(value, list) or name in _LISTS:
        items = value if isinstance(value, list) else str(value).split(",")
        return ",".join(str(each).strip() for each in items)
    text = str(value)
    units = _MILLISECONDS if name.endswith(".ms") else _BYTES if name.endswith(".bytes") else None
    if units is None or text == "-1":
        return text
    found = _AMOUNT.fullmatch(text)
    if not found or (found[2] and found[2] not in units):
        raise DeclarationError(f"{name}: {text!r} is none; write a number, or one with {', '.join(units)}")
    return str(int(found[1]) * units[found[2]] if found[2] else int(found[1]))


def readable(name: str, value: str) -> str:
    """A value for people: with its unit where it is a round number of one."""
    units = _MILLISECONDS if name.endswith(".ms") else _BYTES if name.endswith(".bytes") else {}
    if not value.isdecimal() or value == "0":
        return value
    for unit, size in reversed(units.items()):
        if int(value) % size == 0:
            return f"{int(value) // size}{unit}"
    return value


def _topic(name: str, topic: Table, defaults: Table, headers: list[str]) -> Topic:
    _only(topic, _TOPIC_KEYS, name)
    config = {**_table(defaults.get("config", {}), "defaults.config"), **_table(topic.get("config", {}), name)}
    try:
        written = {key: config_value(key, value) for key, value in sorted(config.items())}
    except DeclarationError as error:
        raise DeclarationError(f"{name}: {error}") from error
    return Topic(
        name=name,
        summary=_text(name, topic, "summary"),
        value=_text(name, topic, "value"),
        key=_text(name, topic, "key"),
        headers=tuple(headers),
        partitions=_count(name, {**defaults, **topic}, "partitions"),
        replicas=_count(name, {**defaults, **topic}, "replicas"),
        config=written,
        outlives=str(topic.get("outlives", "")),
    )


def _check_lifetimes(topics: Mapping[str, Topic]) -> None:
    for topic in topics.values():
        if not topic.outlives:
            continue
        if topic.outlives not in topics:
            raise DeclarationError(f"{topic.name}: there is no topic {topic.outlives} to outlive")
        needed = _lifetime(topics[topic.outlives].config.get(_RETENTION, "-1"))
        deleted = "delete" in topic.config.get(_POLICY, "delete").split(",")
        kept = _lifetime(topic.config.get(_RETENTION, "-1")) if deleted else float("inf")
        compacted = "compact" in topic.config.get(_POLICY, "delete").split(",")
        lag = _lifetime(topic.config.get(_LAG, "0")) if compacted else float("inf")
        if kept < needed or lag < 2 * needed:
            name, least = (_RETENTION, needed) if kept < needed else (_LAG, 2 * needed)
            shown = readable(name, str(int(least))) if least < float("inf") else "-1"
            raise DeclarationError(
                f"{topic.name}: records of {topic.outlives} may need its own; set {name} to {shown} or more"
            )


def _lifetime(milliseconds: str) -> float:
    return float("inf") if milliseconds == "-1" else float(milliseconds)


def _merged(base: Table, changes: Table) -> dict[str, Any]:
    return {**base, **changes, "config": {**base.get("config", {}), **_table(changes.get("config", {}), "config")}}


def _table(value: object, where: str) -> Table:
    if not isinstance(value, Mapping):
        raise DeclarationError(f"{where}: {value!r} is no table")
    return value


def _only(table: Table, allowed: set[str] | frozenset[str], where: str) -> None:
    if unknown := set(table) - allowed:
        raise DeclarationError(
            f"{where}: {', '.join(sorted(unknown))} cannot be said here; there is {', '.join(sorted(allowed))}"
        )


def _text(name: str, topic: Table, key: str) -> str:
    value = topic.get(key)
    if not isinstance(value, str) or not value:
        raise DeclarationError(f"{name}: {key} is missing")
    return value


def _count(name: str, topic: Table, key: str) -> int:
    value = topic.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_PARTITIONS:
        raise DeclarationError(f"{name}: {key} is {value!r}; use 1 to {_MOST_PARTITIONS}")
    return value
