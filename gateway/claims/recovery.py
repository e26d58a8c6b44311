"""The topics are the log, the store is its index: what the store does not know yet is read from the topics' ends.

Three times: for what this gateway's earlier run published and did not write down; for another gateway that has ended;
and for records that this one handed to Kafka and got no answer about.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from gateway.claims.claims import Claims
from gateway.claims.errors import LeaseLost
from gateway.claims.keys import message_key, rejected_key, source_prefix
from gateway.claims.port import ORIGIN_HEADER, Found, Unfinished
from gateway.encode import EVENTS_TOPIC, TOPICS
from gateway.ledger.tally import PUBLISHED, Cell, minute_of, rejected
from mesh.bus.framing import parse
from mesh.bus.port import Offsets
from mesh.bus.tail import Ends, StoredRecord, Tail
from mesh.errors import BusUnavailable, StorageUnavailable

SETTLE_SECONDS: Final = 0.5
"""How long after Kafka answers again a record that nobody acknowledged may still come to be stored: what a stalled
broker had received is stored as soon as it runs."""
BEAT_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5
_LOOKS: Final = 10


class Recovery:
    """Reads the topics' ends and tells claims and store what is there; runs beside the requests."""

    def __init__(self, claims: Claims, tail: Tail, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        self._claims = claims
        self._store = claims.store
        self._tail = tail
        self._settle_seconds = settle_seconds
        self._log = structlog.get_logger("gateway.claims")
        self._unknown = asyncio.Event()
        claims.on_unknown = self._unknown.set
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = asyncio.Event()
        self._told = ""

    def start(self) -> None:
        """Begin to work, until `close`."""
        loop = asyncio.get_running_loop()
        work = (self._begin(), self._settle_unknowns(), self._settle_others())
        self._tasks = [loop.create_task(each) for each in work]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._log.error("recovery ended: nothing is settled any more", problem=repr(task.exception()))

    async def wait_begun(self, seconds: float) -> None:
        """Return when events are taken.

        Raises:
            BusUnavailable: They are not within that time; the detail says why. It is tried on.
        """
        try:
            await asyncio.wait_for(self._begun.wait(), seconds)
        except TimeoutError:
            raise BusUnavailable(self._told or "the topics' ends could not be read in time") from None

    async def close(self) -> None:
        """Stop; what is not settled will be by the next run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tail.close()

    async def _begin(self) -> None:
        """Recover what ended before, take claims, and say from then on that this gateway lives."""
        while not self._claims.recovered:
            try:
                ends = await self.recover(await self._store.unfinished())
                await self._store.renew(ends.offsets, ends.cluster)
            except (BusUnavailable, StorageUnavailable) as error:
                self._tell(str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._claims.begin(ends.cluster, ends.offsets)
        self._begun.set()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                cluster, lows = self._claims.durable_position()
                await self._store.renew(lows, cluster)
            except LeaseLost:
                self._claims.lose()
            except StorageUnavailable as error:
                self._tell(str(error))

    async def _settle_others(self) -> None:
        """Look after gateways that have ended; apart from the beat, which must not wait for Kafka."""
        await self._begun.wait()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self.settle_others()
                self._told = ""
            except (BusUnavailable, StorageUnavailable) as error:
                self._tell(str(error))

    async def settle_others(self) -> None:
        """Account for what gateways that have ended published, and forget some of what is old.

        Raises:
            BusUnavailable, StorageUnavailable: Not now.
        """
        if unfinished := await self._store.unfinished():
            await self.recover(unfinished)
        await self._store.tidy()

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            self._told = problem
            self._log.warning("the topics' ends are not settled yet", problem=problem)

    async def recover(self, unfinished: Sequence[Unfinished]) -> Ends:
        """Account for what gateways that have ended published; up to where the topics were read.

        Raises:
            BusUnavailable, StorageUnavailable: Not now; to be tried again from the start, which does no harm.
        """
        ends = await self._settled_ends(unfinished)
        for each in unfinished:
            if each.lows is not None:
                await self._recover(each, each.lows, ends)
            await self._store.settle(each.owner)
        return ends

    async def _settled_ends(self, unfinished: Sequence[Unfinished]) -> Ends:
        """Where the topics end once what was under way to Kafka has arrived.

        They are looked at more than once when they seem to have become shorter: a broker that is just starting may not
        know all of its topics yet.
        """
        ends = await self._tail.ends(TOPICS)
        for _ in range(_LOOKS):
            before = [each for each in unfinished if each.lows is not None and each.cluster == ends.cluster]
            if before:
                await asyncio.sleep(self._settle_seconds)
                ends = await self._tail.ends(TOPICS)
            if not any(_is_gone(each, ends) for each in before):
                break
        return ends

    async def _recover(self, unfinished: Unfinished, lows: Offsets, ends: Ends) -> None:
        if _is_gone(unfinished, ends):
            self._log.error(
                "the topics are not those that were written to: what is known of their messages is forgotten",
                cluster=ends.cluster,
                before=unfinished.cluster,
            )
            await self._store.forget(ends.cluster, unfinished.owner)
            return
        read = found = 0
        async for records in self._tail.read(lows, ends.offsets):
            read += len(records)
            found += await self._store.recover(unfinished.owner, records_of(records, unfinished.owner))
        self._log.info("recovered from the topics", owner=unfinished.owner, read=read, found=found)

    async def _settle_unknowns(self) -> None:
        while True:
            await self._unknown.wait()
            self._unknown.clear()
            while self._claims.unknown:
                try:
                    # Two looks: from when Kafka answers, what it had received has time to come to be stored.
                    await self._tail.ends(TOPICS)
                    await asyncio.sleep(self._settle_seconds)
                    await self.settle_unknown()
                except BusUnavailable as error:
                    self._tell(str(error))
                    await asyncio.sleep(_RETRY_SECONDS)

    async def settle_unknown(self) -> None:
        """Read the topics from the lowest offset of an open claim and settle what had no answer.

        Raises:
            BusUnavailable: Kafka cannot be read; nothing is decided.
        """
        claims = list(self._claims.unknown)
        ends = await self._tail.ends(TOPICS)
        lows = {partition: min((claim.lows or {}).get(partition, 0) for claim in claims) for partition in ends.offsets}
        wanted = {claim.keys[index] for claim in claims for index in claim.unknown}
        stored: set[bytes] = set()
        async for records in self._tail.read(lows, ends.offsets):
            stored.update(found.key for found in records_of(records, self._store.owner) if found.key in wanted)
        for claim in claims:
            self._claims.settle(claim, stored.__contains__)
        self._log.info("records without an answer settled", unknown=len(wanted), stored=len(stored))


def _is_gone(unfinished: Unfinished, ends: Ends) -> bool:
    """Whether the topics that a gateway wrote to are no more: another cluster, or one that ends before its offsets."""
    lows = unfinished.lows or {}
    return unfinished.cluster != ends.cluster or any(
        ends.offsets.get(partition, 0) < low for partition, low in lows.items()
    )


def records_of(records: Iterable[StoredRecord], owner: str) -> Iterable[Found]:
    """A gateway's records among these: their keys, and where they are counted."""
    origin = (ORIGIN_HEADER, owner.encode())
    for record in records:
        if origin in record.headers:
            _, value = parse(record.value)
            yield _event(value) if record.topic == EVENTS_TOPIC else _failed(value)


def _event(value: bytes) -> Found:
    event = EnrichedEvent.FromString(value)
    key = message_key(source_prefix(event.workspace, event.source), event.message_id)
    minute = minute_of(event.received_time.ToNanoseconds())
    return Found(key, Cell(event.workspace, event.source, minute, PUBLISHED))


def _failed(value: bytes) -> Found:
    event = FailedEvent.FromString(value)
    received_ns = event.received_time.ToNanoseconds()
    prefix = source_prefix(event.workspace, event.source)
    key = rejected_key(prefix, event.message_id, received_ns, event.index)
    return Found(key, Cell(event.workspace, event.source, minute_of(received_ns), rejected(event.reason)))
