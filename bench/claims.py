"""What exactly-once and the ledger cost an event, in CPU of the gateway's process: `python -m bench.claims`.

Batches pass the claim and settle of a real store as the pipeline makes them pass; the same without them is taken off.
Shown are the event loop's thread and all threads, the store's writer among them. Interleaved rounds, medians.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Coroutine, Sequence
from pathlib import Path

import uvloop
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.identity.v1.identity_service_pb2 import ResolvedIdentity
from gateway.batch import Admitted, Allowed, Claimed, Submission
from gateway.claims.claim import Claim
from gateway.claims.claims import Claims
from gateway.claims.opening import open_store
from gateway.claims.port import ClaimStore
from gateway.claims.settings import ClaimsSettings
from gateway.decode.request import decode_request
from gateway.encode import owned_events
from gateway.sources import Source
from mesh.bus.memory import MemoryBus
from mesh.bus.port import DeliveryFailure, Record

_SOURCE = Source("main", "default", frozenset({2}))
_KEPT = (ResolvedIdentity(), ConsentDecision())


class _InstantBus(MemoryBus):
    """Acknowledges at once and keeps nothing: the bus is not what is measured."""

    def produce(self, records: Sequence[Record]) -> asyncio.Future[list[DeliveryFailure]]:  # noqa: ARG002
        delivery: asyncio.Future[list[DeliveryFailure]] = asyncio.get_running_loop().create_future()
        delivery.set_result([])
        return delivery


def submissions(count: int, events: int) -> list[Submission]:
    """A batch's requests, each with so many events; every message id is new."""
    return [_submission(events) for _ in range(count)]


def _submission(events: int) -> Submission:
    each = ",".join(f'{{"type":"page","messageId":"{uuid.uuid4()}","anonymousId":"a"}}' for _ in range(events))
    body = f'{{"batch":[{each}]}}'.encode()
    now = time.time_ns()
    return Submission(_SOURCE, decode_request(body, None, now), INVALID_SPAN_CONTEXT, now, "", 0.0, len(body))


async def with_claims(claims: Claims, batches: list[list[Submission]], records: list[Record]) -> None:
    """Claim, publish and settle each batch as the pipeline does."""
    for batch in batches:
        claimed = await claims.claim(Admitted("main", batch, owned_events(batch)))
        kept = [Allowed(owned, *_KEPT) for owned in claimed.events]
        await claims.produce(claimed, kept, records[: len(kept)])
        claims.release(claimed)
        await claims.follow(claimed)
        await asyncio.sleep(0)
    await claims.journal.kept()


async def without_claims(bus: _InstantBus, batches: list[list[Submission]], records: list[Record]) -> None:
    """The same without claim, settle and ledger."""
    for batch in batches:
        claimed = Claimed("main", batch, owned_events(batch), Claim(), [], [])
        kept = [Allowed(owned, *_KEPT) for owned in claimed.events]
        await bus.produce(records[: len(kept)])
        await asyncio.sleep(0)


async def measure(url: str, rows: int, rounds: int) -> None:
    """Print the cost of an event for several shapes of batches."""
    with tempfile.TemporaryDirectory() as folder:
        bus = _InstantBus()
        store = await open_store(ClaimsSettings(database=url), Path(folder))
        claims = Claims(store, bus)
        await store.renew({}, "bench")
        claims.begin("bench", {})
        beat = asyncio.get_running_loop().create_task(_beat(store))
        records = [Record("t", b"", b"")] * 2_500
        for _ in range(rows // 2_500):
            await with_claims(claims, [submissions(1, 2_500)], records)
        print(f"{'PostgreSQL' if url else 'SQLite'}, {rows:,} messages known; CPU us an event, all threads")
        for requests, events in ((64, 1), (1, 50), (4, 250)):
            costs: list[tuple[float, float]] = []
            for _ in range(rounds):
                batches = [submissions(requests, events) for _ in range(max(1, 12_800 // (requests * events)))]
                total = len(batches) * requests * events
                plain = await _cpu(without_claims(bus, batches, records))
                full = await _cpu(with_claims(claims, batches, records))
                costs.append(((full[0] - plain[0]) / total * 1e6, (full[1] - plain[1]) / total * 1e6))
            loop, every = (statistics.median(each) for each in zip(*costs, strict=True))
            print(f"  {requests:4} requests of {events:4} events: loop {loop:6.2f}  all {every:6.2f}")
        beat.cancel()
        await claims.close()


async def _beat(store: ClaimStore) -> None:
    while True:
        await asyncio.sleep(0.5)
        await store.renew({}, "bench")


async def _cpu(work: Coroutine[None, None, None]) -> tuple[float, float]:
    """Seconds of CPU that the work took of this thread, and of all."""
    loop, every = time.thread_time(), time.process_time()
    await work
    return time.thread_time() - loop, time.process_time() - every


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default="", help="postgresql://...; SQLite without it")
    parser.add_argument("--rows", type=int, default=500_000, help="messages that are known before")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    uvloop.run(measure(options.database, options.rows, options.rounds))


if __name__ == "__main__":
    main()
