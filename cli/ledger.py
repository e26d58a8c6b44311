"""`clew ledger`: what became of every event, as the gateway's ledger has it, and whether it adds up."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToJson
from rich.console import Console

from clew.collector.v1.collector_service_pb2 import FilterReason
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.ledger.v1.ledger_pb2 import LedgerEntry
from clew.ledger.v1.ledger_service_pb2 import (
    GRANULARITY_MINUTE,
    GRANULARITY_TOTAL,
    GetLedgerRequest,
    GetLedgerResponse,
)
from clew.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from cli.endpoints import NotRunning
from cli.gateway_rpc import Gateway, Refused, connected, every_source, translated
from cli.records import printable
from cli.tables import print_table
from cli.terminal import console as terminal

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TIMEOUT_SECONDS: Final = 10
_COUNTS: Final = ("received", "published", "duplicate")


class BadSpan(Exception):
    """Raised when a span of time cannot be read."""


def parse_span(text: str) -> int:
    """Seconds in `90s`, `15m`, `6h` or `2d`; 0 for an empty text.

    Raises:
        BadSpan: It is none of these.
    """
    if not text:
        return 0
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise BadSpan(f"{text!r} is no time like 15m, 6h or 2d")
    return int(match[1]) * _SECONDS[match[2]]


def ledger(data_dir: Path, seconds: int, *, source: str, minutes: bool, as_json: bool) -> int:
    """Ask the gateway and print.

    Exit status 0 when the counts add up, 1 when not, when nothing runs or when there is no such source.
    """
    try:
        with connected(data_dir) as gateway:
            answer = read_ledger(gateway, seconds, source=source, minutes=minutes)
            known = not source or bool(answer.entries) or _is_known(gateway, source)
    except (NotRunning, Refused) as error:
        sys.stderr.write(f"clew ledger: {printable(str(error))}\n")
        return 1
    if source and not answer.entries:
        when = " in that time" if seconds else ""
        why = "" if known else "; there is no source of that name, see `clew source list`"
        sys.stderr.write(f"clew ledger: nothing was counted for source {source!r}{when}{why}\n")
    if as_json:
        sys.stdout.write(
            MessageToJson(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True) + "\n"
        )
    elif known:
        # Nobody is to read of a misspelt source that it is balanced.
        show(answer, terminal())
    return 0 if answer.balanced and known else 1


def read_ledger(gateway: Gateway, seconds: int, *, source: str = "", minutes: bool = False) -> GetLedgerResponse:
    """The ledger of the last seconds, or all of it with 0.

    Raises:
        NotRunning: The gateway cannot be reached.
        Refused: It does not tell.
    """
    request = GetLedgerRequest(source=source, granularity=GRANULARITY_MINUTE if minutes else GRANULARITY_TOTAL)
    if seconds:
        request.start_time.FromSeconds(int(time.time()) - seconds)
    get = LedgerServiceStub(gateway.channel).GetLedger
    answer: GetLedgerResponse = translated(lambda: get(request, timeout=_TIMEOUT_SECONDS, metadata=gateway.metadata))
    return answer


def _is_known(gateway: Gateway, source: str) -> bool:
    """Whether there is a source of that name in any workspace; True where the gateway does not tell."""
    try:
        return any(each.name == source for each in every_source(gateway))
    except Refused:
        return True


def show(answer: GetLedgerResponse, console: Console) -> None:
    """Print a table and one line that says whether it adds up."""
    rejected = sorted({each.reason for entry in answer.entries for each in entry.rejected})
    filtered = sorted({each.reason for entry in answer.entries for each in entry.filtered})
    timed = any(entry.HasField("minute_time") for entry in answer.entries)
    counts = (*(("minute (UTC)",) if timed else ()), *_COUNTS, *map(_failure, rejected), *map(_filter, filtered))
    rows = [_row(entry, rejected, filtered, timed=timed) for entry in answer.entries]
    print_table(("workspace", "source", *counts), rows, console, numbers=len(counts))
    verdict = "balanced" if answer.balanced else "[red]does not add up: a fault of clew's, please report it[/red]"
    deferred = f", {answer.deferred:,} of them deferred" if answer.deferred else ""
    console.print(f"\nin flight {answer.in_flight:,}{deferred}   {verdict}", soft_wrap=True)
    if answer.truncated:
        console.print("not all is shown: ask for less with --since or --source", soft_wrap=True)


def _row(entry: LedgerEntry, rejected: Sequence[int], filtered: Sequence[int], *, timed: bool) -> list[str]:
    refused = {each.reason: each.count for each in entry.rejected}
    left_out = {each.reason: each.count for each in entry.filtered}
    counts = [getattr(entry, name) for name in _COUNTS]
    counts += [refused.get(FailureReason.ValueType(reason), 0) for reason in rejected]
    counts += [left_out.get(FilterReason.ValueType(reason), 0) for reason in filtered]
    names = [entry.workspace, entry.source]
    if timed:
        names.append(entry.minute_time.ToDatetime().strftime("%Y-%m-%d %H:%M"))
    return [*names, *(f"{count:,}" for count in counts)]


def _failure(reason: int) -> str:
    name = FailureReason.Name(FailureReason.ValueType(reason)).removeprefix("FAILURE_REASON_").lower()
    return f"rejected\n{name.replace('_', ' ')}"


def _filter(reason: int) -> str:
    name = FilterReason.Name(FilterReason.ValueType(reason)).removeprefix("FILTER_REASON_").lower()
    return f"filtered\n{name.replace('_', ' ')}"
