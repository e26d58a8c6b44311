"""`clew ledger`: what became of every event, as the gateway's ledger has it, and whether it adds up."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToJson
from rich.console import Console
from rich.table import Table

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
from cli.endpoints import Endpoints, NotRunning
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
    """Ask the gateway and print; exit status 0 when the counts add up, 1 when not or when nothing runs."""
    try:
        answer = read_ledger(Endpoints.read(data_dir), seconds, source=source, minutes=minutes)
    except NotRunning as error:
        sys.stderr.write(f"clew ledger: {error}\n")
        return 1
    if as_json:
        sys.stdout.write(
            MessageToJson(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True) + "\n"
        )
    else:
        show(answer, terminal())
    return 0 if answer.balanced else 1


def read_ledger(endpoints: Endpoints, seconds: int, *, source: str = "", minutes: bool = False) -> GetLedgerResponse:
    """The ledger of the last seconds, or all of it with 0.

    Raises:
        NotRunning: The gateway cannot be reached, or refuses.
    """
    request = GetLedgerRequest(source=source, granularity=GRANULARITY_MINUTE if minutes else GRANULARITY_TOTAL)
    if seconds:
        request.start_time.FromSeconds(int(time.time()) - seconds)
    target = endpoints.grpc["gateway"]
    metadata = (("authorization", f"Bearer {endpoints.admin_token}"),)
    with grpc.insecure_channel(target) as channel:
        try:
            answer: GetLedgerResponse = LedgerServiceStub(channel).GetLedger(
                request, timeout=_TIMEOUT_SECONDS, metadata=metadata
            )
        except grpc.RpcError as error:
            details: Any = error
            raise NotRunning(f"the gateway at {target} does not answer: {details.details()}") from error
    return answer


def show(answer: GetLedgerResponse, console: Console) -> None:
    """Print a table and one line that says whether it adds up."""
    rejected = sorted({each.reason for entry in answer.entries for each in entry.rejected})
    filtered = sorted({each.reason for entry in answer.entries for each in entry.filtered})
    timed = any(entry.HasField("minute_time") for entry in answer.entries)
    table = Table(box=None, pad_edge=False)
    for name in ("workspace", "source", *(("minute (UTC)",) if timed else ())):
        table.add_column(name)
    for name in (*_COUNTS, *map(_failure, rejected), *map(_filter, filtered)):
        table.add_column(name, justify="right")
    for entry in answer.entries:
        table.add_row(*_row(entry, rejected, filtered, timed=timed))
    console.print(table)
    verdict = "balanced" if answer.balanced else "[red]does not add up: a fault of clew's, please report it[/red]"
    deferred = f", {answer.deferred:,} of them deferred" if answer.deferred else ""
    console.print(f"\nin flight {answer.in_flight:,}{deferred}   {verdict}")
    if answer.truncated:
        console.print("not all is shown: ask for less with --since or --source")


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
