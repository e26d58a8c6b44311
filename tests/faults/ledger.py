"""What the gateway's own ledger says, beside what is on the topics."""

from collections.abc import Collection
from dataclasses import dataclass

import grpc

from clew.ledger.v1.ledger_service_pb2 import GRANULARITY_TOTAL, GetLedgerRequest, GetLedgerResponse
from clew.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The ledger's totals over all sources."""

    received: int = 0
    published: int = 0
    duplicate: int = 0
    rejected: int = 0
    filtered: int = 0
    in_flight: int = 0

    @classmethod
    def of(cls, answer: GetLedgerResponse) -> "Counts":
        """The totals of an answer."""
        entries = answer.entries
        return cls(
            received=sum(entry.received for entry in entries),
            published=sum(entry.published for entry in entries),
            duplicate=sum(entry.duplicate for entry in entries),
            rejected=sum(each.count for entry in entries for each in entry.rejected),
            filtered=sum(each.count for entry in entries for each in entry.filtered),
            in_flight=answer.in_flight,
        )


async def read_counts(target: str, token: str) -> Counts:
    """Ask a gateway, `HOST:PORT`, for the totals of all gateways that share its store."""
    async with grpc.aio.insecure_channel(target) as channel:
        request = GetLedgerRequest(granularity=GRANULARITY_TOTAL)
        return Counts.of(
            await LedgerServiceStub(channel).GetLedger(
                request, timeout=_SECONDS, metadata=(("authorization", f"Bearer {token}"),)
            )
        )


def imbalance(counts: Counts, *, events: int, failed: int, filtered: Collection[str]) -> list[str]:
    """Where the ledger contradicts itself, the topics or what clients were told; empty when it does not.

    Args:
        counts: The ledger, once nothing is under way.
        events: Records on the events topic.
        failed: Records on the failed topic.
        filtered: Messages that a client was told are filtered; answers that it did not get may be counted beside them.
    """
    out = counts.published + counts.duplicate + counts.rejected + counts.filtered + counts.in_flight
    found = []
    if counts.received != out:
        found.append(f"received {counts.received:,} is not what became of them, {out:,}")
    if counts.published != events:
        found.append(f"published {counts.published:,}, and {events:,} records are on the events topic")
    if counts.rejected != failed:
        found.append(f"rejected {counts.rejected:,}, and {failed:,} records are on the failed topic")
    if counts.filtered < len(filtered):
        found.append(f"filtered {counts.filtered:,}, and clients were told of {len(filtered):,}")
    return found
