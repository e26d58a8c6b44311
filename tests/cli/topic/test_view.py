"""What records, and redrives, look like."""

import io
import json

import pytest
from rich.console import Console

from clew.admin.v1 import failed_event_service_pb2 as messages
from clew.audit.v1 import audit_entry_pb2 as audit
from clew.collector.v1.collector_service_pb2 import Verdict
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import Event, EventType
from clew.event.v1.failed_event_pb2 import FailedEvent, FailureReason
from cli.topic.candidates import MAX_CALL_EVENTS, Candidate, calls, mended
from cli.topic.fixes import parse_set, setting
from cli.topic.records import Raw
from cli.topic.redrive_view import as_dict, print_look, print_sent
from cli.topic.schemas import Read
from cli.topic.view import as_json, audit_line, payload_text, show, time_text

RAW = Raw("clew.events.failed.v1", 3, 17, 1_795_660_200_005, b"web", b"x", [("traceparent", b"00-1")])
TYPED = Event(message_id="m", type=EventType.EVENT_TYPE_TRACK, properties_json='{"a":1}')
FAILED = FailedEvent(
    message_id="m-1",
    workspace="main",
    source="web",
    reason=FailureReason.FAILURE_REASON_MISSING_IDENTIFIER,
    detail="the event needs an id",
    payload=b'{"type":"track","total":1.50}',
)


def shown(read: Read, *, terminal: bool = False, headers: bool = True) -> str:
    """What people see."""
    out = io.StringIO()
    show(Console(file=out, force_terminal=terminal, width=60), read, headers=headers)
    return out.getvalue()


def test_people_see_where_when_what_and_the_headers() -> None:
    """A failed event with its payload as it came."""
    lines = shown(Read(RAW, 12, FAILED)).splitlines()
    assert lines[0] == "failed 3:17  2026-11-26T02:30:00.005Z  key=web  clew.event.v1.FailedEvent (schema 12)"
    assert "missing_identifier" in lines[1]
    assert lines[2].strip() == '{"type":"track","total":1.50}'
    assert lines[3].strip() == "traceparent=00-1"
    assert "traceparent" not in shown(Read(RAW, 12, FAILED), headers=False)


def test_colour_is_for_terminals() -> None:
    """A pipe gets text, on one line each; a terminal is not steered by what visitors sent."""
    hostile = FailedEvent(detail="\x1b]0;owned\x07", payload=b"\x1b[2J")
    assert "\x1b" not in shown(Read(RAW, 12, hostile))
    on_terminal = shown(Read(RAW, 12, hostile), terminal=True)
    assert "\x1b[1m" in on_terminal
    assert "\x1b]0" not in on_terminal
    assert "\x1b[2J" not in on_terminal


def test_programs_get_one_line_of_json() -> None:
    """The payload parsed where it is JSON, a message as its JSON, anything else as text."""
    line = json.loads(as_json(Read(RAW, 12, FAILED)))
    assert (line["topic"], line["partition"], line["offset"], line["key"]) == (RAW.topic, 3, 17, "web")
    assert line["time"] == "2026-11-26T02:30:00.005Z"
    assert line["headers"] == {"traceparent": "00-1"}
    assert line["value"]["reason"] == "FAILURE_REASON_MISSING_IDENTIFIER"
    assert line["payload"] == {"type": "track", "total": 1.5}
    assert json.loads(payload_text(TYPED.SerializeToString()))["propertiesJson"] == '{"a":1}'
    assert payload_text(b"\xffbroken") == "\\xffbroken"


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "-1e400"])
def test_what_is_no_json_is_text_for_programs(number: str) -> None:
    """SDKs in Python send bare NaN, and a reader in any other language would give up on the whole line."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    payload = f'{{"type":"track","total":{number}}}'
    line = json.loads(as_json(Read(RAW, 12, FailedEvent(payload=payload.encode()))), parse_constant=refuse)
    assert line["payload"] == payload


def test_a_record_without_a_time_says_so() -> None:
    """Very old formats have none."""
    assert time_text(-1) == "no time"
    assert time_text(0) == "1970-01-01T00:00:00.000Z"


def test_an_audit_entry_is_a_line() -> None:
    """Who, how many, what became of them, and why."""
    outcomes = (audit.REDRIVE_OUTCOME_ACCEPTED, audit.REDRIVE_OUTCOME_ACCEPTED, audit.REDRIVE_OUTCOME_DUPLICATE)
    redriven = audit.EventsRedriven(phase=audit.REDRIVE_PHASE_ENDED)
    redriven.events.extend(audit.RedrivenEvent(outcome=outcome) for outcome in outcomes)
    entry = audit.AuditEntry(actor="ops", note="OPS-7", events_redriven=redriven)
    assert audit_line(entry) == "redrive   ended  by ops  events=3  2 accepted, 1 duplicate  note=OPS-7"
    assert "ops" in shown(Read(RAW, 17, entry))
    assert "clew" in shown(Read(RAW, 9, Event(event="clew")))
    assert "x" in shown(Read(RAW, 9, EnrichedEvent(event="x")))


def candidate(status: messages.RedriveStatus.ValueType, offset: int = 17, **fields: object) -> Candidate:
    """One that the gateway has answered."""
    made = Candidate(FAILED, messages.Redrive(partition=3, offset=offset))
    made.result = messages.RedriveResult(status=status, message_id="m-1", **fields)  # type: ignore[arg-type]
    return made


def test_what_still_fails_is_shown_before_anything_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """With its reason; what is ready with what was changed; what was redriven before with by whom."""
    before = candidate(messages.REDRIVE_STATUS_REDRIVEN_BEFORE, 3)
    assert before.result is not None
    before.result.previous.actor = "ada"
    found = [
        candidate(messages.REDRIVE_STATUS_READY, 1, changed_paths=["/userId", ""]),
        candidate(
            messages.REDRIVE_STATUS_INVALID, 2, failure_reason=FailureReason.FAILURE_REASON_UNKNOWN_TYPE, detail="none"
        ),
        before,
    ]
    found[1].lacks_type = True
    print_look(found, do=False)
    out = capsys.readouterr().out
    assert "3 failed events: 1 ready, 1 still failing, 1 redriven before" in out
    assert "changed: /userId, (whole)" in out
    assert """unknown_type: none; the path that it was sent to may have said it: try --set type='"track"'""" in out
    assert "redriven by ada" in out
    assert "add --yes" in out
    print_look([], do=False)
    assert capsys.readouterr().out == "no failed event is meant\n"
    print_look([found[0]] * 30, do=True)
    assert "... and 10 more" in capsys.readouterr().out


def test_verdicts_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """And the audit entries are named."""
    sent = [
        candidate(messages.REDRIVE_STATUS_SENT, verdict=Verdict.VERDICT_ACCEPTED),
        candidate(messages.REDRIVE_STATUS_UNANSWERED),
    ]
    print_sent(sent, ["e-1"])
    assert capsys.readouterr().out == "sent: 1 accepted, 1 unanswered\naudit entries on clew.audit.v1: e-1\n"
    line = as_dict(sent[0])
    assert (line["status"], line["verdict"], line["failed_with"]) == ("sent", "accepted", "missing_identifier")


def test_a_message_is_mended_as_its_json() -> None:
    """By the contract's JSON names, into a message again; what is none is refused here."""

    def failed() -> FailedEvent:
        return FailedEvent(payload=TYPED.SerializeToString())

    good = mended(RAW, failed(), setting([parse_set('userId="u"')]))
    assert (good.redrive.event.user_id, good.redrive.event.properties_json, good.problem) == ("u", '{"a":1}', "")
    bad = mended(RAW, failed(), setting([parse_set("no_such_field=1")]))
    assert "no clew.event.v1.Event" in bad.problem
    assert bad.status == messages.REDRIVE_STATUS_INVALID
    same = mended(RAW, failed(), None)
    assert same.redrive.WhichOneof("replacement") is None


def test_what_is_too_large_or_no_text_is_refused_here() -> None:
    """So that it does not cost the other events of its call."""
    large = FailedEvent(payload=b'{"blob":"%s"}' % (b"x" * 40_000))
    assert "the limit is 32768" in mended(RAW, large, setting([parse_set('userId="u"')])).problem
    broken = mended(RAW, FailedEvent(payload=b"{}"), lambda _: b'{"a":"\xff"}')
    assert "no UTF-8" in broken.problem
    assert mended(RAW, FailedEvent(payload=b'{"event":"x"}'), None).lacks_type
    assert not mended(RAW, FailedEvent(payload=b'{"type":"x"}'), None).lacks_type


def test_calls_hold_one_workspace_and_no_more_than_fits() -> None:
    """In order: by number, by bytes, and whenever the workspace changes."""
    many = [candidate(messages.REDRIVE_STATUS_READY, at) for at in range(MAX_CALL_EVENTS + 5)]
    assert [len(group) for group in calls(many)] == [MAX_CALL_EVENTS, 5]
    for one in many[:100]:
        one.redrive.event_json = "x" * 32_000
    sizes = [sum(one.redrive.ByteSize() for one in group) for group in calls(many)]
    assert max(sizes) <= 2 << 20
    assert [one for group in calls(many) for one in group] == many
    many[3].event = FailedEvent(workspace="other")
    assert [len(group) for group in calls(many[:6])] == [3, 1, 2]
    assert list(calls([])) == []
