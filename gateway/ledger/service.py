"""The ledger by rpc, for holders of the scope `clew.admin`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from clew.collector.v1.collector_service_pb2 import FilterReason
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.ledger.v1.ledger_pb2 import FilteredCount, LedgerEntry, RejectedCount
from clew.ledger.v1.ledger_service_pb2 import GRANULARITY_MINUTE, GetLedgerRequest, GetLedgerResponse
from clew.ledger.v1.ledger_service_pb2_grpc import LedgerServiceServicer
from gateway.admission import ADMIN_SCOPE, Admission
from gateway.caller import Caller
from gateway.claims.claims import Claims
from gateway.claims.port import LedgerQuery
from gateway.credentials import read_credentials
from gateway.ledger.tally import DUPLICATE, PUBLISHED, RECEIVED, Cell, Tally, failure_reason, filter_reason

MAX_ENTRIES: Final = 50_000
_MINUTE_SECONDS: Final = 60
_LAST_MINUTE: Final = 1 << 40

CountOf: TypeAlias = Callable[[str, str], int]
"""Counts the events of a workspace and source that wait in the spool; empty names mean all."""


def nothing(_workspace: str, _source: str) -> int:
    """Nothing waits where there is no spool."""
    return 0


class LedgerServicer(LedgerServiceServicer):
    """Reads the ledger."""

    def __init__(self, admission: Admission, claims: Claims, deferred: CountOf = nothing) -> None:
        self._admission = admission
        self._claims = claims
        self._deferred = deferred

    async def GetLedger(self, request: GetLedgerRequest, context: Caller) -> GetLedgerResponse:  # noqa: N802, D102
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        await self._admission.administrator(read_credentials(metadata.get("authorization"), None), ADMIN_SCOPE)
        await self._claims.journal.kept()
        tally = await self._claims.store.ledger(
            LedgerQuery(
                request.workspace,
                request.source,
                request.start_time.seconds // _MINUTE_SECONDS,
                request.end_time.seconds // _MINUTE_SECONDS if request.HasField("end_time") else _LAST_MINUTE,
                per_minute=request.granularity == GRANULARITY_MINUTE,
            )
        )
        entries = ledger_entries(tally)
        deferred = self._deferred(request.workspace, request.source)
        return GetLedgerResponse(
            entries=oldest(entries, MAX_ENTRIES),
            in_flight=self._claims.in_flight(request.workspace, request.source) + deferred,
            deferred=deferred,
            balanced=all(is_balanced(entry) for entry in entries),
            truncated=len(entries) > MAX_ENTRIES,
        )


def ledger_entries(tally: Tally) -> list[LedgerEntry]:
    """The cells put together by source and minute, in that order."""
    entries: dict[Cell, LedgerEntry] = {}
    for cell in sorted(tally):
        place = cell._replace(outcome=RECEIVED)
        entry = entries.get(place)
        if entry is None:
            entry = entries[place] = LedgerEntry(workspace=cell.workspace, source=cell.source)
            if cell.minute:
                entry.minute_time.CopyFrom(Timestamp(seconds=cell.minute * _MINUTE_SECONDS))
        _enter(entry, cell.outcome, tally[cell])
    return list(entries.values())


def oldest(entries: list[LedgerEntry], most: int) -> Sequence[LedgerEntry]:
    """As many whole minutes as are at most so many entries, of all sources; of entries without minutes the first."""
    if len(entries) <= most:
        return entries
    left_out = sorted(entry.minute_time.seconds for entry in entries)[most]
    return [entry for entry in entries if entry.minute_time.seconds < left_out] or entries[:most]


def _enter(entry: LedgerEntry, outcome: int, count: int) -> None:
    failed, left_out = failure_reason(outcome), filter_reason(outcome)
    if outcome == RECEIVED:
        entry.received = count
    elif outcome == PUBLISHED:
        entry.published = count
    elif outcome == DUPLICATE:
        entry.duplicate = count
    elif failed is not None:
        entry.rejected.append(RejectedCount(reason=FailureReason.ValueType(failed), count=count))
    elif left_out is not None:
        entry.filtered.append(FilteredCount(reason=FilterReason.ValueType(left_out), count=count))


def is_balanced(entry: LedgerEntry) -> bool:
    """Whether every event that was received has one outcome."""
    outcomes = entry.published + entry.duplicate + _sum(entry.rejected) + _sum(entry.filtered)
    return entry.received == outcomes


def _sum(counts: Iterable[RejectedCount] | Iterable[FilteredCount]) -> int:
    return sum(each.count for each in counts)
