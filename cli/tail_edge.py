"""`clew tail --edge`: events while the gateway handles them, with what every stage made of each."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from msgspec import json

from clew.admin.v1.edge_debug_service_pb2 import EdgeEvent, Stage, StageStatus, StageVerdict, TailEventsRequest
from clew.collector.v1.collector_service_pb2 import Verdict
from cli.endpoints import NotRunning
from cli.gateway_rpc import Refused, connected, translated
from cli.records import name_of, printable

VERDICTS = {"unanswered": 0, **{name.removeprefix("VERDICT_").lower(): n for name, n in Verdict.items() if n}}
_REASONS = ("FAILURE_REASON_", "FILTER_REASON_", "ERROR_REASON_")


@dataclass(frozen=True, slots=True)
class EdgeFilter:
    """What an event must have to be shown; an empty field asks for nothing."""

    source: str = ""
    message_id: str = ""
    user: str = ""
    verdict: str = ""

    def request(self) -> TailEventsRequest:
        """What the gateway is asked for."""
        request = TailEventsRequest(source=self.source, message_id=self.message_id, user_id=self.user)
        if self.verdict:
            request.verdicts.append(Verdict.ValueType(VERDICTS[self.verdict]))
        return request


def tail_edge(data_dir: Path, wanted: EdgeFilter, *, limit: int, json_lines: bool) -> int:
    """Show events until Ctrl-C, or until `limit` were shown (0: no limit). Exit status 1 when the gateway refuses."""
    try:
        with connected(data_dir) as gateway:
            call = gateway.tail(wanted.request())
            stop = _Stop(call)
            try:
                translated(lambda: _follow(call, limit, json_lines=json_lines))
            except (Refused, NotRunning):
                if not stop.asked:
                    raise
    except (Refused, NotRunning) as error:
        sys.stderr.write(f"clew tail: {printable(str(error))}\n")
        return 1
    return 0


class _Stop:
    """Ends a call on Ctrl-C or SIGTERM."""

    def __init__(self, call: Any) -> None:
        self.asked = False
        self._call = call
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.asked = True
        self._call.cancel()


def _follow(call: Any, limit: int, *, json_lines: bool) -> None:
    call.initial_metadata()
    sys.stderr.write("watching the gateway; Ctrl-C ends\n")
    sys.stderr.flush()
    show = as_json if json_lines else lines
    shown = 0
    for response in call:
        if response.lost_events:
            sys.stderr.write(f"{response.lost_events} more came faster than they can be shown\n")
        if not response.HasField("event"):
            continue
        sys.stdout.write(show(response.event) + "\n")
        sys.stdout.flush()
        shown += 1
        if shown == limit:
            call.cancel()
            return


def lines(event: EdgeEvent) -> str:
    """One event for people: its way, and below what may be seen of it."""
    verdict = name_of(Verdict, event.verdict, "VERDICT_") if event.verdict else "unanswered"
    way = " > ".join(_stage(stage) for stage in event.stages)
    time = f"{event.receive_time.ToDatetime():%H:%M:%S.%f}"[:-3]
    first = printable(
        f"{time} {verdict:<10} source={event.source or '-'} message={event.message_id or '-'}"
        f" trace={event.trace_id}  {way}"
    )
    below = [stage.detail for stage in event.stages if stage.detail] + ([event.event_json] if event.event_json else [])
    return "\n".join([first, *(f"    {printable(text)}" for text in below)])


def as_json(event: EdgeEvent) -> str:
    """One event as a line of JSON by the contract's own names; the redacted event as an object of its own."""
    shown = MessageToDict(event, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    text = shown.pop("event_json")
    shown["event"] = json.decode(text) if text else None
    return json.encode(shown).decode()


def _stage(verdict: StageVerdict) -> str:
    stage = name_of(Stage, verdict.stage, "STAGE_")
    if verdict.status == StageStatus.STAGE_STATUS_PASSED:
        return stage
    reason = verdict.reason
    for prefix in _REASONS:
        reason = reason.removeprefix(prefix)
    status = name_of(StageStatus, verdict.status, "STAGE_STATUS_")
    return f"{stage} {status} ({reason.lower()})"
