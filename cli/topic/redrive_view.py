"""What a redrive looks like: before it, what would be sent and what still fails; after it, the verdicts."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from clew.admin.v1 import failed_event_service_pb2 as messages
from clew.collector.v1.collector_service_pb2 import Verdict
from clew.event.v1.failed_event_pb2 import FailureReason
from cli.records import name_of, printable
from cli.tables import print_table
from cli.topic.candidates import Candidate

_MOST_ROWS: Final = 20
_WORDS: Final = {
    messages.REDRIVE_STATUS_READY: "ready",
    messages.REDRIVE_STATUS_INVALID: "still failing",
    messages.REDRIVE_STATUS_REDRIVEN_BEFORE: "redriven before",
    messages.REDRIVE_STATUS_NOT_FOUND: "gone",
    messages.REDRIVE_STATUS_NO_SOURCE: "without a source",
    messages.REDRIVE_STATUS_UNANSWERED: "waiting",
    messages.REDRIVE_STATUS_SENT: "sent",
}
_ORDER: Final = tuple(_WORDS)


def print_look(found: Sequence[Candidate], *, do: bool) -> None:
    """What would be sent and what would not, for people."""
    if not found:
        _say("no failed event is meant")
        return
    counts = Counter(candidate.status for candidate in found)
    events = "event" if len(found) == 1 else "events"
    _say(f"{len(found)} failed {events}: " + ", ".join(f"{counts[one]} {_WORDS[one]}" for one in _ORDER if counts[one]))
    _print_some([one for one in found if one.status == messages.REDRIVE_STATUS_READY], "can be sent", _ready_row)
    _print_some([one for one in found if one.status != messages.REDRIVE_STATUS_READY], "cannot", _other_row)
    if counts[messages.REDRIVE_STATUS_READY] and not do:
        _say("nothing was sent: add --yes to send them")


def print_sent(sent: Sequence[Candidate], entries: Sequence[str]) -> None:
    """What became of them, for people."""
    verdicts: Counter[str] = Counter()
    for candidate in sent:
        result = candidate.result
        answered = result is not None and result.status == messages.REDRIVE_STATUS_SENT
        verdicts[name_of(Verdict, result.verdict, "VERDICT_") if answered and result else status_name(candidate)] += 1
    _say("sent: " + ", ".join(f"{count} {name}" for name, count in verdicts.items()))
    if entries:
        _say(f"audit entries on clew.audit.v1: {', '.join(entries)}")


def print_results(found: Sequence[Candidate]) -> None:
    """A line of JSON for each event."""
    for candidate in found:
        sys.stdout.write(json.dumps(as_dict(candidate)) + "\n")


def as_dict(candidate: Candidate) -> dict[str, Any]:
    """What is known of an event, for programs."""
    event, result = candidate.event, candidate.result
    shown: dict[str, Any] = {
        "partition": candidate.redrive.partition,
        "offset": candidate.redrive.offset,
        "workspace": event.workspace,
        "source": event.source,
        "failed_with": candidate.reason,
        "status": status_name(candidate),
        "message_id": result.message_id if result else event.message_id,
        "detail": candidate.detail,
        "changed_paths": list(result.changed_paths) if result else [],
    }
    if result is not None and result.verdict:
        shown["verdict"] = name_of(Verdict, result.verdict, "VERDICT_")
    if result is not None and result.failure_reason:
        shown["failure_reason"] = name_of(FailureReason, result.failure_reason, "FAILURE_REASON_")
    if result is not None and result.HasField("previous"):
        shown["previous"] = MessageToDict(result.previous, preserving_proto_field_name=True)
    return shown


def status_name(candidate: Candidate) -> str:
    """What became of it, in a word."""
    return name_of(messages.RedriveStatus, candidate.status, "REDRIVE_STATUS_")


def _print_some(some: Sequence[Candidate], what: str, row: Any) -> None:
    if not some:
        return
    headings = ("place", "source", "failed with", "message id", what)
    print_table(headings, [row(candidate) for candidate in some[:_MOST_ROWS]])
    if len(some) > _MOST_ROWS:
        _say(f"... and {len(some) - _MOST_ROWS} more (--json shows all)")


def _ready_row(candidate: Candidate) -> tuple[str, ...]:
    paths = list(candidate.result.changed_paths) if candidate.result else []
    changed = ", ".join(path or "(whole)" for path in paths)
    return *_place(candidate), f"changed: {changed}" if changed else "as it is"


def _other_row(candidate: Candidate) -> tuple[str, ...]:
    result = candidate.result
    why = candidate.detail
    if result is not None and result.HasField("previous"):
        at = result.previous.create_time.ToJsonString()
        why = f"redriven by {result.previous.actor} at {at}"
    elif result is not None and result.failure_reason:
        why = f"{name_of(FailureReason, result.failure_reason, 'FAILURE_REASON_')}: {why}"
    return *_place(candidate), why


def _place(candidate: Candidate) -> tuple[str, str, str, str]:
    place = f"{candidate.redrive.partition}:{candidate.redrive.offset}"
    message_id = candidate.result.message_id if candidate.result else candidate.event.message_id
    return place, candidate.event.source, candidate.reason, message_id or "-"


def _say(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")
