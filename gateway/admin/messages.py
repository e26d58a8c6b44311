"""Sources between the contract's form and the store's."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import json, to_builtins

from clew.admin.v1 import source_pb2 as messages
from clew.options.v1.privacy_pb2 import Purpose
from gateway.admin.directory import Listed
from gateway.admin.records import (
    Entry,
    Key,
    KeyCreated,
    KeyExpiring,
    KeyRevoked,
    Limits,
    SourceCreated,
    SourceDeleted,
    SourceUpdated,
    SourceValues,
)
from gateway.sources import ALL_PURPOSES

_NANOS: Final = 1_000_000_000
_Kind = messages.SourceChangeKind
_KINDS: Final[dict[type, messages.SourceChangeKind.ValueType]] = {
    SourceCreated: _Kind.SOURCE_CHANGE_KIND_CREATED,
    SourceUpdated: _Kind.SOURCE_CHANGE_KIND_UPDATED,
    SourceDeleted: _Kind.SOURCE_CHANGE_KIND_DELETED,
    KeyCreated: _Kind.SOURCE_CHANGE_KIND_KEY_CREATED,
    KeyExpiring: _Kind.SOURCE_CHANGE_KIND_KEY_EXPIRING,
    KeyRevoked: _Kind.SOURCE_CHANGE_KIND_KEY_REVOKED,
}


def values_of(source: messages.Source) -> SourceValues:
    """What a request says about a source; without purposes it collects for all of them."""
    return SourceValues(
        purposes=tuple(sorted(source.purposes or ALL_PURPOSES)),
        limits=Limits(source.limits.events_per_second, source.limits.burst) if source.HasField("limits") else None,
        allowed_origins=tuple(source.allowed_origins.origins) if source.HasField("allowed_origins") else None,
        disabled=source.disabled,
    )


def source_message(listed: Listed, uses: Mapping[str, int], now_ns: int) -> messages.Source:
    """A source as it is answered. `uses`: when keys were used last, by their hash."""
    record, values = listed.record, listed.record.values
    origin = messages.SOURCE_ORIGIN_FILE if listed.from_file else messages.SOURCE_ORIGIN_STORE
    source = messages.Source(
        workspace=record.workspace,
        name=record.name,
        purposes=[Purpose.ValueType(number) for number in values.purposes],
        disabled=values.disabled,
        origin=origin,
        write_keys=[key_message(key, uses.get(key.sha256), now_ns) for key in record.keys],
        create_time=_time(record.create_ns),
        update_time=_time(record.update_ns),
    )
    if values.limits is not None:
        source.limits.events_per_second = values.limits.events_per_second
        source.limits.burst = values.limits.burst
    if values.allowed_origins is not None:
        # Also when it is empty, which is not the same as absent.
        source.allowed_origins.SetInParent()
        source.allowed_origins.origins.extend(values.allowed_origins)
    return source


def key_message(key: Key, last_use_ns: int | None, now_ns: int) -> messages.WriteKey:
    """What is known of a key as it is answered."""
    return messages.WriteKey(
        id=key.id,
        prefix=key.prefix,
        state=_state(key, now_ns),
        create_time=_time(key.create_ns),
        expire_time=_time(key.expire_ns),
        revoke_time=_time(key.revoke_ns),
        last_use_time=_time(last_use_ns),
    )


def change_message(entry: Entry) -> messages.SourceChange:
    """One entry of the history as it is answered."""
    return messages.SourceChange(
        revision=entry.revision,
        change_time=_time(entry.at_ns),
        actor=entry.actor,
        workspace=entry.workspace,
        source=entry.source,
        kind=_KINDS[type(entry.change)],
        write_key_id=_key_id(entry),
        detail_json=_detail(entry),
    )


def nanos_of(duration: Duration) -> int:
    """A duration in nanoseconds."""
    return duration.seconds * _NANOS + duration.nanos


def _state(key: Key, now_ns: int) -> messages.WriteKeyState.ValueType:
    if key.revoke_ns is not None:
        return messages.WRITE_KEY_STATE_REVOKED
    return messages.WRITE_KEY_STATE_ACTIVE if key.holds(now_ns) else messages.WRITE_KEY_STATE_EXPIRED


def _key_id(entry: Entry) -> str:
    match entry.change:
        case KeyCreated(key=key):
            return key.id
        case KeyExpiring(key_id=key_id) | KeyRevoked(key_id=key_id):
            return key_id
        case _:
            return ""


def _detail(entry: Entry) -> str:
    match entry.change:
        case SourceCreated(values=values) | SourceUpdated(values=values):
            purposes = [Purpose.Name(Purpose.ValueType(number)) for number in values.purposes]
            return json.encode({**to_builtins(values), "purposes": purposes}).decode()
        case KeyCreated(key=Key(expire_ns=int() as expire_ns)) | KeyExpiring(expire_ns=expire_ns):
            return json.encode({"expire_time": _stamp(expire_ns).ToJsonString()}).decode()
        case _:
            return ""


def _time(unix_ns: int | None) -> Timestamp | None:
    """A time; None where there is none, 0 included: what stands in the sources file has no times."""
    return _stamp(unix_ns) if unix_ns else None


def _stamp(unix_ns: int) -> Timestamp:
    return Timestamp(seconds=unix_ns // _NANOS, nanos=unix_ns % _NANOS)
