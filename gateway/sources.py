"""The sources that may send events, and the write keys that name them.

A write key can only collect. It stands in web pages, so it is no secret and proves nothing about a user; it is kept
hashed all the same, so that a copy of the configuration is no list of working keys.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from clew.options.v1.privacy_pb2 import Purpose
from gateway.http.cors import ANY_ORIGIN, is_origin_pattern
from gateway.limits.gcra import Quota
from mesh.clock import Clock, SystemClock
from mesh.settings import SettingsError

_PURPOSE_PREFIX = "PURPOSE_"
_PURPOSES = {name.removeprefix(_PURPOSE_PREFIX).lower(): number for name, number in Purpose.items() if number}
_REMEMBERED_KEYS = 4096
ALL_PURPOSES: Final = frozenset(_PURPOSES.values())


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
    """How much it may send; None: the server's default."""
    allowed_origins: tuple[str, ...] = ANY_ORIGIN
    """Whose pages may send with its keys, see `gateway.http.cors.allows`; none of them when it is empty."""


class _LimitsEntry(msgspec.Struct, forbid_unknown_fields=True):
    """The limits of an entry."""

    events_per_second: float
    burst: int


class _SourceEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of the sources file, as it stands there."""

    workspace: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    write_key_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    purposes: list[str] = msgspec.field(default_factory=lambda: list(_PURPOSES))
    limits: _LimitsEntry | None = None
    allowed_origins: list[str] | None = None


def hash_key(write_key: str) -> str:
    """The form in which a write key is stored: hex SHA-256.

    Keys are random, so that a slow hash would protect nothing more.
    """
    return hashlib.sha256(write_key.encode()).hexdigest()


class Sources:
    """The sources by write key: what a request asks for, with a dictionary look-up.

    Args:
        by_hash: The sources by the hash of each key that holds.
        clock: Tells when a key was used.
    """

    def __init__(self, by_hash: Mapping[str, Source], clock: Clock | None = None) -> None:
        self._by_hash = by_hash
        self._by_key: dict[str, Source] = {}
        self._clock = clock or SystemClock()
        self._uses: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    @property
    def by_hash(self) -> Mapping[str, Source]:
        """The sources by the hash of each key that holds now."""
        return MappingProxyType(dict(self._by_hash))

    def find(self, write_key: str) -> Source | None:
        """The source that the key belongs to, or None.

        Keys that were found are remembered, so that each is hashed once between two calls of `take_uses`.
        """
        source = self._by_key.get(write_key)
        return source if source is not None else self._look_up(write_key)

    def _look_up(self, write_key: str) -> Source | None:
        digest = hash_key(write_key)
        source = self._by_hash.get(digest)
        if source is not None:
            self._uses[digest] = self._clock.now_ns()
            if len(self._by_key) < _REMEMBERED_KEYS:
                self._by_key[write_key] = source
        return source

    def replace(self, by_hash: Mapping[str, Source]) -> None:
        """Let other keys hold, from the next look-up on: nothing that was remembered outlives this."""
        self._by_hash = by_hash
        self._by_key = {}

    @property
    def uses(self) -> Mapping[str, int]:
        """What `take_uses` would return; nothing is forgotten."""
        return MappingProxyType(self._uses)

    def take_uses(self) -> dict[str, int]:
        """When each key that was found since the last call was found first, Unix nanoseconds, by its hash.

        Noting a use costs a request nothing: a key is forgotten here, and noted when it is looked up anew.
        """
        uses, self._uses = self._uses, {}
        self._by_key = {}
        return uses

    @classmethod
    def load(cls, path: Path | None) -> "Sources":
        """Read the sources file; without one there are none.

        It is a JSON list of `{workspace, name, write_key_sha256, purposes?, limits?, allowed_origins?}`.

        Raises:
            SettingsError: The file cannot be read, or an entry is wrong; the message names which and what to do.
        """
        if path is None:
            return cls({})
        try:
            entries = msgspec.json.decode(path.read_bytes(), type=list[_SourceEntry])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"CLEW_SOURCES_FILE: {path} cannot be used: {error}"]) from error
        by_hash: dict[str, Source] = {}
        for entry in entries:
            if entry.write_key_sha256 in by_hash:
                raise SettingsError(
                    [f"CLEW_SOURCES_FILE: {path}: source {entry.name!r} has the write key of another source"]
                )
            by_hash[entry.write_key_sha256] = _source(entry, path)
        return cls(by_hash)


def _source(entry: _SourceEntry, path: Path) -> Source:
    return Source(entry.workspace, entry.name, _purposes(entry, path), _limits(entry, path), _origins(entry, path))


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


def _origins(entry: _SourceEntry, path: Path) -> tuple[str, ...]:
    if entry.allowed_origins is None:
        return ANY_ORIGIN
    wrong = [origin for origin in entry.allowed_origins if not is_origin_pattern(origin)]
    if wrong:
        problem = f"source {entry.name!r} allows {wrong}; an origin is like https://shop.example, without a path"
        raise SettingsError([f"CLEW_SOURCES_FILE: {path}: {problem}"])
    return tuple(entry.allowed_origins)
