"""Which of the records that were read are meant; what needs no decoding is looked at first."""

from typing import Any

from cli.topic.records import Raw
from cli.topic.schemas import Read, Schemas
from cli.topic.selection import Selection

_SOURCES = ("workspaces", "sources")


def quick_match(selection: Selection, raw: Raw) -> bool:
    """Whether place, time and key are meant."""
    return (
        selection.has_offset(raw.partition, raw.offset)
        and selection.has_time(raw.time_ms)
        and (not selection.keys or (raw.key or b"").decode(errors="replace") in selection.keys)
    )


def match(selection: Selection, read: Read) -> bool:
    """Whether message id, source, workspace and reason are meant as well."""
    if selection.message_ids and message_id_of(read) not in selection.message_ids:
        return False
    if selection.reasons and getattr(read.message, "reason", 0) not in selection.reasons:
        return False
    if selection.source or selection.workspace:
        workspace, source = source_of(read)
        return selection.source in {"", source} and selection.workspace in {"", workspace}
    return True


def select(selection: Selection, schemas: Schemas, raw: Raw) -> Read | None:
    """The record, decoded, when it is meant."""
    if not quick_match(selection, raw):
        return None
    read = schemas.read(raw)
    return read if match(selection, read) else None


def message_id_of(read: Read) -> str:
    """The message id: of the message, or where it has none, of the header."""
    return _text(read.message, "message_id") or read.raw.header("clew-message-id")


def source_of(read: Read) -> tuple[str, str]:
    """Workspace and source: of the message, or of the CloudEvents header."""
    workspace, source = _text(read.message, "workspace"), _text(read.message, "source")
    if workspace or source:
        return workspace, source
    parts = read.raw.header("ce_source").strip("/").split("/")
    named = dict(zip(parts[::2], parts[1::2], strict=False))
    first, second = (named.get(part, "") for part in _SOURCES)
    return first, second


def _text(message: Any, field: str) -> str:
    value = getattr(message, field, "")
    return value if isinstance(value, str) else ""
