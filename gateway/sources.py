"""The sources that may send events, and the write keys that name them.

A write key can only collect. It stands in web pages, so it is no secret and proves nothing about a user; it is kept
hashed all the same,
so that a copy of the configuration is no list of working keys.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from clew.options.v1.privacy_pb2 import Purpose
from gateway.limits.gcra import Quota
from mesh.settings import SettingsError

_PURPOSE_PREFIX = "PURPOSE_"
_PURPOSES = {name.removeprefix(_PURPOSE_PREFIX).lower(): number for name, number in Purpose.items() if number}
_REMEMBERED_KEYS = 4096


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """How much a source may send.

    Raises:
        ValueError: The rate is not above 0 and at most 1,000,000, or the burst is below 1.
    """

    events_per_second: float
    """Above 0, at most 1,000,000."""
    burst: int
    """Events that may come at once after a pause; 1 or more."""

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through, or that the limiter cannot keep exactly."""
        Quota.of(self.events_per_second, self.burst)


@dataclass(frozen=True, slots=True)
class Source:
    """One website, application or backend that events come from."""

    workspace: str
    name: str
    purposes: frozenset[int]
    """What its events are collected for; an event that consent allows for none of these is not kept."""
    limits: SourceLimits | None = None
    """Its own limits; None: those that hold for all sources."""


class _LimitsEntry(msgspec.Struct, forbid_unknown_fields=True):
    """The limits of one entry, as they stand there."""

    events_per_second: float
    burst: int


class _SourceEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of the sources file, as it stands there."""

    workspace: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    write_key_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    purposes: list[str] = msgspec.field(default_factory=lambda: list(_PURPOSES))
    limits: _LimitsEntry | None = None


def hash_key(write_key: str) -> str:
    """The form in which a write key is stored: hex SHA-256.

    Keys are random, so that a slow hash would protect nothing more.
    """
    return hashlib.sha256(write_key.encode()).hexdigest()


class Sources:
    """The configured sources, found by write key."""

    def __init__(self, by_hash: dict[str, Source]) -> None:
        self._by_hash = by_hash
        self._by_key: dict[str, Source] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def find(self, write_key: str) -> Source | None:
        """The source that the key belongs to, or None.

        Keys that were found are remembered, so that each is hashed once.
        """
        source = self._by_key.get(write_key)
        if source is None:
            source = self._by_hash.get(hash_key(write_key))
            if source is not None and len(self._by_key) < _REMEMBERED_KEYS:
                self._by_key[write_key] = source
        return source

    @classmethod
    def load(cls, path: Path) -> "Sources":
        """Read the sources file: a JSON list of `{workspace, name, write_key_sha256, purposes?, limits?}`.

        Raises:
            SettingsError: The file cannot be read, or an entry is wrong; the message names which and what to do.
        """
        try:
            entries = msgspec.json.decode(path.read_bytes(), type=list[_SourceEntry])
        except (OSError, msgspec.DecodeError) as error:
            raise SettingsError([f"CLEW_SOURCES_FILE: {path} cannot be used: {error}"]) from error
        by_hash: dict[str, Source] = {}
        for entry in entries:
            if entry.write_key_sha256 in by_hash:
                raise SettingsError(
                    [f"CLEW_SOURCES_FILE: {path}: source {entry.name!r} has the write key of another source"]
                )
            by_hash[entry.write_key_sha256] = Source(
                entry.workspace, entry.name, _purposes(entry, path), _limits(entry, path)
            )
        return cls(by_hash)


def _purposes(entry: _SourceEntry, path: Path) -> frozenset[int]:
    unknown = sorted(set(entry.purposes) - set(_PURPOSES))
    if unknown or not entry.purposes:
        known = ", ".join(_PURPOSES)
        problem = f"source {entry.name!r} names the purposes {unknown or 'none'}; each must be one of {known}"
        raise SettingsError([f"CLEW_SOURCES_FILE: {path}: {problem}"])
    return frozenset(_PURPOSES[name] for name in entry.purposes)


def _limits(entry: _SourceEntry, path: Path) -> SourceLimits | None:
    if entry.limits is None:
        return None
    try:
        return SourceLimits(entry.limits.events_per_second, entry.limits.burst)
    except ValueError as error:
        raise SettingsError([f"CLEW_SOURCES_FILE: {path}: limits of source {entry.name!r}: {error}"]) from error
