"""What may be done to a source: each rule looks at the source as it is and returns the changes, or refuses."""

from collections.abc import Callable
from typing import Final, TypeAlias

from gateway.admin.records import (
    Change,
    Key,
    KeyCreated,
    KeyExpiring,
    KeyRevoked,
    SourceCreated,
    SourceDeleted,
    SourceRecord,
    SourceUpdated,
    SourceValues,
)
from gateway.errors import SourceExists, SourceNotFound, TooManyWriteKeys, WriteKeyNotActive, WriteKeyNotFound

MAX_ACTIVE_KEYS: Final = 20
"""Most keys of a source that hold at a time."""

Rule: TypeAlias = Callable[[SourceRecord | None, int], list[Change]]
"""From the source as it is, None when there is none, and the time in Unix nanoseconds, to what is to be recorded."""


def create(values: SourceValues) -> Rule:
    """Make the source, unless it exists."""

    def rule(record: SourceRecord | None, _now_ns: int) -> list[Change]:
        if record is not None:
            raise SourceExists("the workspace has a source of that name; choose another")
        return [SourceCreated(values)]

    return rule


def update(change: Callable[[SourceValues], SourceValues]) -> Rule:
    """Change its values; values that stay as they are leave no trace."""

    def rule(record: SourceRecord | None, _now_ns: int) -> list[Change]:
        current = existing(record)
        values = change(current.values)
        return [] if values == current.values else [SourceUpdated(values)]

    return rule


def delete(record: SourceRecord | None, _now_ns: int) -> list[Change]:
    """Remove it."""
    existing(record)
    return [SourceDeleted()]


def create_key(key_id: str, sha256: str, prefix: str, lifetime_ns: int | None) -> Rule:
    """Give it a key."""

    def rule(record: SourceRecord | None, now_ns: int) -> list[Change]:
        _check_room(existing(record), now_ns)
        expire_ns = None if lifetime_ns is None else now_ns + lifetime_ns
        return [KeyCreated(Key(key_id, sha256, prefix, now_ns, expire_ns))]

    return rule


def rotate_key(old_id: str, overlap_ns: int, key_id: str, sha256: str, prefix: str) -> Rule:
    """Give it a key in place of another, which goes on to hold for the overlap and never longer than it would have.

    Without an overlap the other is revoked: an end by the clock would leave it to gateways whose clocks are behind.
    """

    def rule(record: SourceRecord | None, now_ns: int) -> list[Change]:
        current = existing(record)
        old = key_of(current, old_id)
        if not old.holds(now_ns):
            raise WriteKeyNotActive("the key holds no longer; create a new one")
        _check_room(current, now_ns)
        created = KeyCreated(Key(key_id, sha256, prefix, now_ns))
        if not overlap_ns:
            return [created, KeyRevoked(old_id)]
        end_ns = now_ns + overlap_ns
        if old.expire_ns is not None:
            end_ns = min(end_ns, old.expire_ns)
        return [created, KeyExpiring(old_id, end_ns)]

    return rule


def revoke_key(key_id: str) -> Rule:
    """End a key now; one that was revoked before stays as it is."""

    def rule(record: SourceRecord | None, _now_ns: int) -> list[Change]:
        return [] if key_of(existing(record), key_id).revoke_ns is not None else [KeyRevoked(key_id)]

    return rule


def existing(record: SourceRecord | None) -> SourceRecord:
    """The source.

    Raises:
        SourceNotFound: There is none.
    """
    if record is None:
        raise SourceNotFound("the workspace has no source of that name")
    return record


def key_of(record: SourceRecord, key_id: str) -> Key:
    """One of its keys.

    Raises:
        WriteKeyNotFound: It has none of that id.
    """
    key = record.key(key_id)
    if key is None:
        raise WriteKeyNotFound("the source has no write key of that id")
    return key


def _check_room(record: SourceRecord, now_ns: int) -> None:
    if sum(key.holds(now_ns) for key in record.keys) >= MAX_ACTIVE_KEYS:
        raise TooManyWriteKeys(MAX_ACTIVE_KEYS)
