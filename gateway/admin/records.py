"""A source as it is stored, the changes that it goes through, and how a change makes the next state out of the last.

Pure: what is stored is the fold of the history, and tests compare the two.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

MAX_KEYS: Final = 100
"""Most keys that a source remembers; those that hold no longer make room first, the oldest of them first."""


class Limits(Struct, frozen=True):
    """How much a source may send: events a second in the long run, and at once after a pause."""

    events_per_second: float
    burst: int


class SourceValues(Struct, frozen=True):
    """What an administrator decides about a source.

    `purposes` are numbers of `clew.options.v1.Purpose`, ascending. Absent limits: the server's default; absent origins:
    any; no origins: none.
    """

    purposes: tuple[int, ...]
    limits: Limits | None = None
    allowed_origins: tuple[str, ...] | None = None
    disabled: bool = False


class Key(Struct, frozen=True):
    """A write key: its hash, and until when it holds. Times are Unix nanoseconds."""

    id: str
    sha256: str
    prefix: str
    create_ns: int
    expire_ns: int | None = None
    revoke_ns: int | None = None

    def holds(self, now_ns: int) -> bool:
        """Whether it may be used. A revoked key never may, whatever time the clock that asks believes it is."""
        return self.revoke_ns is None and (self.expire_ns is None or now_ns < self.expire_ns)


class SourceRecord(Struct, frozen=True):
    """A source and its keys, oldest first; `revision` is the number of the change that made it so."""

    workspace: str
    name: str
    values: SourceValues
    create_ns: int
    update_ns: int
    revision: int
    keys: tuple[Key, ...] = ()

    def key(self, key_id: str) -> Key | None:
        """The key of that id, or None."""
        return next((key for key in self.keys if key.id == key_id), None)


class SourceCreated(Struct, frozen=True, tag="created"):
    """The source was made."""

    values: SourceValues


class SourceUpdated(Struct, frozen=True, tag="updated"):
    """Its values are these from now on."""

    values: SourceValues


class SourceDeleted(Struct, frozen=True, tag="deleted"):
    """It is gone, with its keys."""


class KeyCreated(Struct, frozen=True, tag="key_created"):
    """A key was made."""

    key: Key


class KeyExpiring(Struct, frozen=True, tag="key_expiring"):
    """A key was given an end."""

    key_id: str
    expire_ns: int


class KeyRevoked(Struct, frozen=True, tag="key_revoked"):
    """A key was revoked."""

    key_id: str


Change: TypeAlias = SourceCreated | SourceUpdated | SourceDeleted | KeyCreated | KeyExpiring | KeyRevoked


class Entry(Struct, frozen=True):
    """One entry of the history: the change, its number, when, by whom, and of which source."""

    revision: int
    at_ns: int
    actor: str
    workspace: str
    source: str
    change: Change


class HistoryBroken(Exception):
    """Raised when a change does not fit the state before it: a fault of ours, never of a caller."""


def advance(record: SourceRecord | None, entry: Entry) -> SourceRecord | None:
    """The source after a change; None when it is deleted.

    Raises:
        HistoryBroken: The change does not fit.
    """
    if isinstance(entry.change, SourceCreated):
        if record is not None:
            raise HistoryBroken(f"change {entry.revision} makes a source that is there")
        values, at_ns = entry.change.values, entry.at_ns
        return SourceRecord(entry.workspace, entry.source, values, at_ns, at_ns, entry.revision)
    if record is None:
        raise HistoryBroken(f"change {entry.revision} changes a source that is not there")
    touched = replace(record, update_ns=entry.at_ns, revision=entry.revision)
    match entry.change:
        case SourceUpdated(values=values):
            return replace(touched, values=values)
        case SourceDeleted():
            return None
        case KeyCreated(key=key):
            return replace(touched, keys=(*_room(record.keys, entry.at_ns), key))
        case KeyExpiring(key_id=key_id, expire_ns=expire_ns):
            return _with_key(touched, key_id, expire_ns=expire_ns)
        case KeyRevoked(key_id=key_id):
            return _with_key(touched, key_id, revoke_ns=entry.at_ns)


def fold(entries: Iterable[Entry]) -> dict[tuple[str, str], SourceRecord]:
    """All sources after a whole history, in the order of its numbers, by workspace and name."""
    records: dict[tuple[str, str], SourceRecord] = {}
    for entry in entries:
        place = (entry.workspace, entry.source)
        record = advance(records.pop(place, None), entry)
        if record is not None:
            records[place] = record
    return records


def _room(keys: tuple[Key, ...], now_ns: int) -> tuple[Key, ...]:
    """The keys without the oldest that hold no longer, so that one more fits."""
    if len(keys) < MAX_KEYS:
        return keys
    dead = next((key for key in keys if not key.holds(now_ns)), None)
    return tuple(key for key in keys if key is not dead)


def _with_key(record: SourceRecord, key_id: str, *, expire_ns: int = -1, revoke_ns: int = -1) -> SourceRecord:
    if record.key(key_id) is None:
        raise HistoryBroken(f"change {record.revision} changes a key that is not there")
    changed: dict[str, int] = {"expire_ns": expire_ns} if expire_ns >= 0 else {"revoke_ns": revoke_ns}
    keys = tuple(replace(key, **changed) if key.id == key_id else key for key in record.keys)
    return replace(record, keys=keys)
