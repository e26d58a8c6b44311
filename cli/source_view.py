"""How sources, keys and changes look on a terminal, and as JSON."""

import json
import sys
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from clew.admin.v1 import source_pb2 as nouns
from clew.options.v1.privacy_pb2 import Purpose
from cli.records import name_of, printable
from cli.tables import print_table


def print_json(**parts: Any) -> None:
    """One JSON object; messages by the contract's own field names."""
    sys.stdout.write(json.dumps({name: _plain(part) for name, part in parts.items()}) + "\n")


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.write(printable(text) + "\n")


def print_secret(secret: str) -> None:
    """A new key, which nothing will show again."""
    say(f"write key  {secret}   (shown this once: keep it)")


def print_sources(sources: Iterable[nouns.Source]) -> None:
    """A line for each source."""
    headings = ("workspace", "source", "keys", "last use", "limits", "origins", "state", "defined in")
    rows = [
        (
            source.workspace,
            source.name,
            str(sum(key.state == nouns.WRITE_KEY_STATE_ACTIVE for key in source.write_keys)),
            time_text(max(source.write_keys, key=_last_use).last_use_time) if source.write_keys else "never",
            _limits(source),
            _origins(source),
            "disabled" if source.disabled else "enabled",
            name_of(nouns.SourceOrigin, source.origin, "SOURCE_ORIGIN_"),
        )
        for source in sources
    ]
    print_table(headings, rows)


def print_source(source: nouns.Source) -> None:
    """A source with its keys."""
    print_sources([source])
    purposes = ", ".join(name_of(Purpose, number, "PURPOSE_") for number in source.purposes)
    say("")
    say(f"purposes: {purposes}")
    if source.write_keys:
        say("")
        headings = ("key", "begins with", "state", "created", "holds until", "last use")
        print_table(headings, [_key_row(key) for key in source.write_keys])


def print_changes(changes: Iterable[nouns.SourceChange]) -> None:
    """A line for each change."""
    rows = [
        (
            str(change.revision),
            time_text(change.change_time),
            change.actor,
            name_of(nouns.SourceChangeKind, change.kind, "SOURCE_CHANGE_KIND_"),
            change.write_key_id,
            change.detail_json,
        )
        for change in changes
    ]
    print_table(("number", "when", "who", "what", "key", "detail"), rows)


def _key_row(key: nouns.WriteKey) -> tuple[str, ...]:
    end = key.revoke_time if key.HasField("revoke_time") else key.expire_time
    return (
        key.id,
        key.prefix,
        name_of(nouns.WriteKeyState, key.state, "WRITE_KEY_STATE_"),
        time_text(key.create_time),
        time_text(end) if end.seconds else "",
        time_text(key.last_use_time),
    )


def _last_use(key: nouns.WriteKey) -> int:
    return int(key.last_use_time.ToNanoseconds())


def _limits(source: nouns.Source) -> str:
    if not source.HasField("limits"):
        return "default"
    return f"{source.limits.events_per_second:g}/s, burst {source.limits.burst}"


def _origins(source: nouns.Source) -> str:
    if not source.HasField("allowed_origins"):
        return "any"
    return ", ".join(source.allowed_origins.origins) or "none"


def time_text(time: Timestamp) -> str:
    """A time as people read it, UTC; `never` when there is none."""
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}" if time.seconds else "never"


def _plain(part: Any) -> Any:
    if isinstance(part, Message):
        return MessageToDict(part, preserving_proto_field_name=True)
    return [_plain(one) for one in part] if isinstance(part, list) else part
