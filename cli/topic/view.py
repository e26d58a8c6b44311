"""How a record looks: two or three lines for people, one line of JSON for programs."""

import base64
import json
import math
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, MessageToJson
from rich.console import Console
from rich.text import Text

from clew.audit.v1.audit_entry_pb2 import AuditEntry, RedriveOutcome, RedrivePhase
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import Event
from clew.event.v1.failed_event_pb2 import FailedEvent
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from cli.records import Decoded, line, name_of, printable
from cli.topic.records import Raw
from cli.topic.schemas import Read
from cli.topic.selection import SHORT_NAMES
from mesh.payload import message_in

_LONG: Final = {name: short for short, name in SHORT_NAMES.items()}


def time_text(time_ms: int) -> str:
    """A time in UTC with milliseconds, as ISO 8601; `no time` where a record has none."""
    if time_ms < 0:
        return "no time"
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1_000:03}Z"


def as_json(read: Read) -> str:
    """One line of JSON: place, time, key, headers, schema, and the message by the contract's own names.

    A failed event's payload is text in `payload`, parsed where it is JSON. A value that cannot be decoded stands in
    `value_base64`, and why in `problem`.
    """
    raw = read.raw
    shown: dict[str, Any] = {
        "topic": raw.topic,
        "partition": raw.partition,
        "offset": raw.offset,
        "time": time_text(raw.time_ms) if raw.time_ms >= 0 else None,
        "key": _bytes_text(raw.key),
        "headers": _headers(raw),
        "schema": read.schema or None,
        "schema_id": read.schema_id,
    }
    if read.message is None:
        value = None if raw.value is None else base64.b64encode(raw.value).decode()
        shown |= {"value": None, "value_base64": value, "problem": read.problem}
    else:
        shown["value"] = MessageToDict(read.message, preserving_proto_field_name=True)
        if isinstance(read.message, FailedEvent):
            shown["payload"] = payload_value(read.message.payload)
    # ASCII only: nothing that a visitor sent can steer a terminal, and every reader of JSON has the same text.
    return json.dumps(shown)


def show(console: Console, read: Read, *, headers: bool = True) -> None:
    """Lines for people: where and when, what, and the headers."""
    raw = read.raw
    key = "no key" if raw.key is None else f"key={_bytes_text(raw.key)}"
    schema = f"{read.schema} (schema {read.schema_id})" if read.message is not None else "undecoded"
    name = _LONG.get(raw.topic, raw.topic)
    _print(console, f"{name} {raw.partition}:{raw.offset}  {time_text(raw.time_ms)}  {key}  {schema}", "bold")
    for text in _lines(read):
        _print(console, f"  {text}")
    if headers and raw.headers:
        _print(console, "  " + "  ".join(f"{name}={_bytes_text(value)}" for name, value in raw.headers), "dim")


def payload_value(payload: bytes) -> object:
    """A failed event's payload for programs: JSON as such, a message as its JSON, anything else as text.

    What only Python takes for JSON, and would write as it, is text too: NaN, and numbers beyond a double's.
    """
    try:
        return json.loads(payload, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return payload_text(payload)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number of JSON's")
    return number


def payload_text(payload: bytes) -> str:
    """The same for people. Bytes that are no text are shown as escapes."""
    typed = message_in(payload, Event)
    if typed is not None:
        return MessageToJson(typed, indent=None)
    return payload.decode(errors="backslashreplace")


def audit_line(entry: AuditEntry) -> str:
    """An audit entry in a line."""
    redriven = entry.events_redriven
    phase = name_of(RedrivePhase, redriven.phase, "REDRIVE_PHASE_")
    outcomes: dict[str, int] = {}
    for event in redriven.events:
        name = name_of(RedriveOutcome, event.outcome, "REDRIVE_OUTCOME_")
        outcomes[name] = outcomes.get(name, 0) + 1
    what = ", ".join(f"{count} {name}" for name, count in outcomes.items() if name != "unspecified")
    note = f"  note={entry.note}" if entry.note else ""
    return f"redrive   {phase:<6} by {entry.actor}  events={len(redriven.events)}  {what}{note}".rstrip()


def _lines(read: Read) -> list[str]:
    message, raw = read.message, read.raw
    match message:
        case None:
            return [f"{read.problem}; {len(raw.value or b'')} bytes"]
        case FailedEvent():
            return [line(_decoded(raw, message)), payload_text(message.payload)]
        case EnrichedEvent() | ProfileChanged():
            return [line(_decoded(raw, message))]
        case AuditEntry():
            return [audit_line(message)]
        case _:
            return [MessageToJson(message, indent=None, preserving_proto_field_name=True)]


def _decoded(raw: Raw, message: EnrichedEvent | FailedEvent | ProfileChanged) -> Decoded:
    return Decoded(raw.topic, raw.partition, raw.offset, _bytes_text(raw.key) or "", {}, message)


def _headers(raw: Raw) -> dict[str, object]:
    """Headers by name; one that stands there more than once has a list."""
    shown: dict[str, object] = {}
    for name, value in raw.headers:
        text = _bytes_text(value)
        if name not in shown:
            shown[name] = text
        else:
            before = shown[name]
            shown[name] = [*before, text] if isinstance(before, list) else [before, text]
    return shown


def _bytes_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _print(console: Console, text: str, style: str = "") -> None:
    if console.is_terminal:
        console.print(Text(printable(text), style=style), soft_wrap=True)
    else:
        console.file.write(printable(text) + "\n")
