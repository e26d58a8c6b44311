"""Who publishes a message: claimed before, settled after, so that the topic has one copy of it.

While a claim is open it stands in this process's memory, where a second copy finds it and waits for its outcome. The
store is asked about everything else, one round trip a batch.

A claim is settled by Kafka's answer, whether or not anybody still waits for it. When there was no answer, the records
may be on the topic or not: the claim stays open until the topic's own tail has told (`gateway/claims/recovery.py`).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

from gateway.batch import Admitted, Allowed, Claimed, Follower, Owned, Submission
from gateway.claims.claim import Claim
from gateway.claims.counting import count_records
from gateway.claims.following import follow
from gateway.claims.journal import Journal, Released
from gateway.claims.keys import KEY_BYTES, rejected_key, source_prefix
from gateway.claims.outcomes import is_filtered, settle_duplicate
from gateway.claims.port import ClaimStore, Held
from gateway.encode import TOPICS
from gateway.ledger.tally import Cell, add, minute_of, rejected
from mesh.bus.port import Bus, DeliveryFailure, Offsets, Record
from mesh.errors import BusUnavailable, StorageUnavailable

MAX_REMEMBERED: Final = 400_000
"""Most messages that are under way or not durable yet; more are refused, so that memory is bounded."""

Delivery = asyncio.Future[list[DeliveryFailure]]


class Claims:
    """The claims of one gateway.

    Args:
        store: Remembers what was published.
        bus: What the records are handed to.
        lost: Called once when this gateway has lost its lease and must end.
    """

    def __init__(self, store: ClaimStore, bus: Bus, lost: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self._bus = bus
        self._open: dict[bytes, Claim] = {}
        self._undecided: dict[Claim, None] = {}
        self._at_kafka: dict[Claim, None] = {}
        self._base: Offsets = {}
        self._cluster = ""
        self._recovered = False
        self.unknown: dict[Claim, None] = {}
        """Claims with records of which nobody said whether they are stored."""
        self.on_unknown: Callable[[], None] = lambda: None
        self._on_lost = lost
        self._lost = False
        self.journal = Journal(store, self.position, self._released, self.lose)

    def begin(self, cluster: str, ends: Offsets) -> None:
        """Take claims from now on: everything below `ends` is accounted for."""
        self._cluster, self._base, self._recovered = cluster, ends, True

    def lose(self) -> None:
        """This gateway's lease is lost: take nothing more."""
        if not self._lost:
            self._lost, self._recovered = True, False
            self._on_lost()

    @property
    def recovered(self) -> bool:
        """Whether claims are taken yet."""
        return self._recovered

    def position(self) -> tuple[str, Offsets]:
        """The cluster, and the offsets below which each record of ours is settled.

        A batch's records stand at or above what was acknowledged when they were handed over; so do those of every batch
        after it. Hence the oldest unsettled batch decides.
        """
        for claim in self._at_kafka:
            return self._cluster, claim.lows or {}
        return self._cluster, self._reached()

    def durable_position(self) -> tuple[str, Offsets]:
        """As `position`, of what the store knows already."""
        return self.journal.durable_position() or (self._cluster, self._base)

    async def claim(self, batch: Admitted) -> Claimed:
        """Take what nobody has published or claimed; what has been published gets its outcome here.

        Raises:
            BusUnavailable: It is not known yet what an earlier run of this gateway has published.
            StorageUnavailable: The store cannot say, or too much is not durable yet.
        """
        if not self._recovered:
            raise BusUnavailable("the topics' ends were not read yet; send the same events again")
        if len(self._open) + len(self.journal.recent) > MAX_REMEMBERED:
            raise StorageUnavailable("the ledger cannot be written fast enough; send the same events again")
        claimed = Claimed(batch.workspace, batch.submissions, [], Claim(), [], [])
        self._take(batch.events, claimed)
        claim = claimed.claim
        if claim.keys:
            self._undecided[claim] = None
            try:
                held = await self.store.claim(claim.keys)
            except BaseException:
                self._let_go(claim, claim.keys)
                claim.keys = []
                self._finish(claim)
                raise
            if held:
                self._give_back(claimed, held)
        claim.requests = [owned.submission for owned in claimed.events]
        return claimed

    def _take(self, events: list[Owned], claimed: Claimed) -> None:
        claim, fresh, keys = claimed.claim, claimed.events, claimed.claim.keys
        opened, recent = self._open, self.journal.recent
        last: Submission | None = None
        prefix = b""
        for owned in events:
            event, submission = owned
            if submission is not last:
                last = submission
                prefix = source_prefix(submission.source.workspace, submission.source.name)
            # `message_key`, written out: it runs for every event.
            key = blake2b(prefix + event.message_id.encode(), digest_size=KEY_BYTES).digest()
            leader = opened.get(key)
            if leader is not None:
                claimed.followers.append(Follower(owned, key, leader))
            elif key in recent:
                settle_duplicate(claimed, owned)
            else:
                opened[key] = claim
                fresh.append(owned)
                keys.append(key)

    def _give_back(self, claimed: Claimed, held: Mapping[bytes, Held]) -> None:
        """Some keys are not ours: published before, or another gateway's for now."""
        claim = claimed.claim
        events, keys = claimed.events, claim.keys
        claimed.events, claim.keys = [], []
        for owned, key in zip(events, keys, strict=True):
            state = held.get(key)
            if state is None:
                claimed.events.append(owned)
                claim.keys.append(key)
                continue
            del self._open[key]
            if state is Held.PUBLISHED:
                settle_duplicate(claimed, owned)
            else:
                claim.lost.add(key)
                claimed.followers.append(Follower(owned, key, None))

    def produce(self, claimed: Claimed, kept: list[Allowed], records: Sequence[Record]) -> Delivery:
        """Hand the records of a claimed batch to Kafka: those of the events that are kept, then of refused ones.

        Raises:
            StorageUnavailable: Others may hold this gateway for dead and publish what it has claimed.
        """
        if not self.store.may_publish():
            raise StorageUnavailable("the store did not answer in time; send the same events again")
        claim = claimed.claim
        if len(kept) != len(claim.keys):
            self._drop(claimed, kept)
        claim.events = len(claim.keys)
        if len(records) != claim.events:
            _add_rejected(claim, claimed.submissions)
        claim.lows = self._reached()
        self._at_kafka[claim] = self._undecided[claim] = None
        delivery = self._bus.produce(records)
        delivery.add_done_callback(partial(self._on_delivery, claim))
        return delivery

    def release(self, claimed: Claimed) -> None:
        """Give up what was not handed to Kafka; nothing to do for what was."""
        claim = claimed.claim
        if claim.lows is None and not claim.decided:
            pairs = zip(claimed.events, claim.keys, strict=True)
            claim.filtered.update(key for owned, key in pairs if is_filtered(owned))
            self._let_go(claim, claim.keys)
            claim.keys = []
            self._finish(claim)

    async def follow(self, claimed: Claimed) -> Admitted | None:
        """Wait for the copies that came before; what they did not publish is to be tried again.

        A request of which nothing can be said in time is refused alone.
        """
        return await follow(claimed, self.store.look)

    async def keep(self, unpublished: Iterable[tuple[Submission, int]]) -> None:
        """Count what ends on no topic, for requests that are going to be answered; return once that is durable."""
        tally = self.journal.tally
        for submission, outcome in unpublished:
            if submission.error is None:
                source = submission.source
                add(tally, Cell(source.workspace, source.name, minute_of(submission.received_ns), outcome))
        await self.journal.kept()

    def in_flight(self, workspace: str = "", source: str = "") -> int:
        """Events whose outcome is not known, of one workspace and source or of all."""
        # A copy: measurements are taken on a thread of their own.
        return sum(_count(claim, workspace, source) for claim in list(self._undecided))

    @property
    def settled(self) -> bool:
        """Whether it is known what became of everything that was claimed here."""
        return not self._undecided

    def settle(self, claim: Claim, stored: Callable[[bytes], bool]) -> None:
        """The topic has told which of a claim's unknown records it holds."""
        unknown, claim.unknown = claim.unknown, []
        self.unknown.pop(claim, None)
        lost = [index for index in unknown if not stored(claim.keys[index])]
        self._settle(claim, [index for index in unknown if stored(claim.keys[index])])
        self._let_go(claim, [claim.keys[index] for index in lost if index < claim.events])
        self._finish(claim)

    async def close(self) -> None:
        """Write down what is known and let go of the store; call it once the bus is closed."""
        await self.journal.close()
        await self.store.close(settled=not self._undecided and not self.journal.pending)

    # From here on: what happens whether or not anybody waits.

    def _on_delivery(self, claim: Claim, delivery: Delivery) -> None:
        failures = delivery.result()
        if not failures:
            self._settle(claim, range(len(claim.keys)))
            self._finish(claim)
            return
        failed = {failure.index for failure in failures}
        self._settle(claim, [index for index in range(len(claim.keys)) if index not in failed])
        certain = [failure.index for failure in failures if failure.certain]
        self._let_go(claim, [claim.keys[index] for index in certain if index < claim.events])
        claim.unknown = [failure.index for failure in failures if not failure.certain]
        if claim.unknown:
            self.unknown[claim] = None
            self.on_unknown()
        else:
            self._finish(claim)

    def _settle(self, claim: Claim, stored: Sequence[int]) -> None:
        """These records are on their topics."""
        keys, opened = claim.keys, self._open
        events = [keys[index] for index in stored if index < claim.events]
        for key in events:
            del opened[key]
        count_records(self.journal.tally, claim, stored)
        if events:
            self.journal.publish(events)
        if len(events) != len(stored):
            self.journal.reject([keys[index] for index in stored if index >= claim.events])

    def _let_go(self, claim: Claim, keys: Sequence[bytes]) -> None:
        """These events are on no topic: another copy may be claimed, once the store knows."""
        if not keys:
            return
        claim.lost.update(keys)
        if self.store.keeps_claims:
            claim.owed += len(keys)
            self.journal.release(claim, list(keys))
        else:
            for key in keys:
                del self._open[key]

    def _released(self, released: Released) -> None:
        for claim, keys in released:
            for key in keys:
                del self._open[key]
            claim.owed -= len(keys)
            if claim not in self._undecided:
                self._finish(claim)

    def _finish(self, claim: Claim) -> None:
        """What became of each event is known, and so it is to all who wait once nothing is owed to the store."""
        self._undecided.pop(claim, None)
        self._at_kafka.pop(claim, None)
        if not claim.owed:
            claim.decide()

    def _drop(self, claimed: Claimed, kept: list[Allowed]) -> None:
        """Release the events that consent has left out; what is kept is in the order of the events."""
        claim = claimed.claim
        pairs = zip(claimed.events, claim.keys, strict=True)
        keys, dropped = [], []
        for item in kept:
            for owned, key in pairs:
                if owned is item.owned:
                    keys.append(key)
                    break
                dropped.append(key)
        dropped.extend(key for _, key in pairs)
        claim.keys = keys
        claim.requests = [item.owned.submission for item in kept]
        claim.filtered.update(dropped)
        self._let_go(claim, dropped)

    def _reached(self) -> Offsets:
        # What else the bus carries is not claimed, and not looked for on a start.
        acknowledged = self._bus.acknowledged
        return {**self._base, **{place: end for place, end in acknowledged.items() if place[0] in TOPICS}}


def _add_rejected(claim: Claim, submissions: list[Submission]) -> None:
    """The records of refused events follow those of the kept ones, in the order of the requests."""
    requests = list(claim.requests)
    for submission in submissions:
        prefix = source_prefix(submission.source.workspace, submission.source.name)
        for event in submission.decoded.rejected:
            claim.keys.append(rejected_key(prefix, event.message_id, submission.received_ns, event.index))
            claim.outcomes.append(rejected(event.reason))
            requests.append(submission)
    claim.requests = requests


def _count(claim: Claim, workspace: str, source: str) -> int:
    """How many of a claim's events, or records, are not decided, of one source or of all."""
    indices = claim.unknown or range(len(claim.requests))
    requests = (claim.requests[index] for index in indices)
    # What the spool has is counted there.
    return sum(
        workspace in {"", each.source.workspace} and source in {"", each.source.name}
        for each in requests
        if not each.spooled
    )
