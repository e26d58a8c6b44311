"""Random histories of sending, failing, crashing and recovering, against what must hold whatever happens.

The model is the topic itself, and what clients were told: nothing acknowledged is missing, nothing stands twice, and in
the end the ledger has counted every record once.
"""

import asyncio
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from opentelemetry.trace import NoOpTracer

from clew.collector.v1.collector_service_pb2 import Verdict
from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.identity.v1.identity_service_pb2 import ResolvedIdentity
from gateway.aliases import Aliases
from gateway.batch import Allowed, Claimed, Decided, Enriched, Resolved, Submission
from gateway.claims import following
from gateway.claims.claims import Claims
from gateway.claims.port import LedgerQuery
from gateway.claims.recovery import Recovery
from gateway.encode import Encoder
from gateway.ledger.tally import DUPLICATE, PUBLISHED, RECEIVED
from gateway.pipeline import Pipeline
from mesh.bus.memory import MemoryBus
from mesh.bus.tail import MemoryTail
from mesh.errors import ClewError
from tests.gateway.claims.stores import Clock, PostgresShelf, Shelf, SqliteShelf
from tests.gateway.scripted import SOURCE, submission
from tests.support.postgres import Postgres

T = TypeVar("T")

# Few, so that retries, copies and crashes meet.
IDS = st.lists(st.sampled_from([f"m-{number}" for number in range(8)]), min_size=1, max_size=5, unique=True)
REQUESTS = st.lists(IDS, min_size=1, max_size=3)
ALL = LedgerQuery(SOURCE.workspace, SOURCE.name, 0, 1 << 40, per_minute=False)


class LocalPipeline(Pipeline):
    """The pipeline with stages that need no services: everybody is known and allowed."""

    async def resolve(self, batch: Claimed) -> Resolved:
        """One profile for all."""
        await asyncio.sleep(0)
        return Resolved(batch, [ResolvedIdentity(profile_id="p")] * len(batch.events), {})

    async def decide(self, batch: Resolved) -> Decided:
        """Everything is allowed."""
        pairs = zip(batch.claimed.events, batch.identities, strict=True)
        allowed = [Allowed(owned, identity, ConsentDecision()) for owned, identity in pairs]
        return Decided(batch.claimed, allowed, batch.merges)

    async def enrich(self, batch: Decided) -> Enriched:
        """Nothing is added."""
        return Enriched(batch.claimed, batch.allowed, [b""] * len(batch.allowed), batch.merges)


class ClaimsMachine(RuleBasedStateMachine):
    """One gateway after the other, on one store and one topic."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.shelf = self.make_shelf(Path(self.folder.name))
        self.clock = Clock()
        self.bus = MemoryBus(delivery_timeout_seconds=0.005)
        self.acknowledged: set[str] = set()
        self.accepted = 0
        self.copies = 0
        self.nanoseconds = itertools.count()
        self.patience = following.FOLLOW_SECONDS
        following.FOLLOW_SECONDS = 0.02  # type: ignore[misc] # nobody comes to answer a copy that waits
        self.run(self.start())

    def make_shelf(self, folder: Path) -> Shelf:
        """Where the stores are."""
        return SqliteShelf(folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end."""
        return self.loop.run_until_complete(work)

    async def start(self) -> None:
        """The next run of the gateway."""
        store = await self.shelf.open(self.clock)
        self.claims = Claims(store, self.bus)
        self.recovery = Recovery(self.claims, MemoryTail(self.bus), settle_seconds=0.0)
        ends = await self.recovery.recover(await store.unfinished())
        await store.renew(ends.offsets, ends.cluster)
        self.claims.begin(ends.cluster, ends.offsets)
        encoder = Encoder(event_schema_id=1, failed_schema_id=2, origin=store.owner)
        aliases = Aliases(self.bus, MemoryTail(self.bus), schema_id=3)
        # The services are never asked.
        self.pipeline = LocalPipeline(None, self.claims, aliases, encoder, NoOpTracer())  # type: ignore[arg-type]

    @rule(requests=REQUESTS)
    def send(self, requests: list[list[str]]) -> None:
        """Several clients send at the same time."""
        self.run(self.send_all(requests))

    async def send_all(self, requests: list[list[str]]) -> None:
        """Note what each client was told."""
        sent = [self.request(ids) for ids in requests]
        answers = await asyncio.gather(*map(self.pipeline.submit, sent), return_exceptions=True)
        for request, answer in zip(sent, answers, strict=True):
            if answer is None:
                self.note(request)
            else:
                assert isinstance(answer, ClewError), answer

    def request(self, ids: list[str]) -> Submission:
        """One request; it also holds an event that is refused."""
        events = [{"type": "track", "event": "E", "messageId": one, "anonymousId": "a"} for one in ids]
        made = submission(json.dumps({"batch": [*events, 7]}).encode())
        made.received_ns += next(self.nanoseconds)
        return made

    def note(self, request: Submission) -> None:
        """A client was told that all its events are kept."""
        for outcome in request.outcomes.values():
            if outcome.message_id:
                self.acknowledged.add(outcome.message_id)
            self.accepted += outcome.verdict == Verdict.VERDICT_ACCEPTED
            self.copies += outcome.verdict == Verdict.VERDICT_DUPLICATE

    @rule(weather=st.sampled_from(["good", "good", "refuses", "silent", "away"]))
    def change(self, weather: str) -> None:
        """Kafka works, refuses for certain, stores and does not answer, or is away."""
        self.bus.fail_when(lambda _: "the queue is full" if weather == "refuses" else None)
        self.bus.lose_answers(weather == "silent")
        self.run(self.switch(away=weather == "away"))

    @rule(silent=IDS, answered=IDS)
    def lose_one_of_two(self, silent: list[str], answered: list[str]) -> None:
        """A batch without an answer, then one with, whose offsets are higher."""
        self.change("silent")
        self.send([silent])
        self.change("good")
        self.send([answered])

    async def switch(self, *, away: bool) -> None:
        """Stop or start the broker."""
        self.bus.stop() if away else self.bus.start()

    @precondition(lambda self: not self.bus.stopped)
    @rule()
    def read_tail(self) -> None:
        """What had no answer is settled by reading the topics."""
        self.run(self.settle())

    async def settle(self) -> None:
        """Leave nothing unknown."""
        if self.claims.unknown:
            await self.recovery.settle_unknown()
        await asyncio.sleep(0)

    @rule()
    def write_down(self) -> None:
        """The journal has time to write."""
        self.run(self.claims.journal.kept())

    @rule()
    def beat(self) -> None:
        """The gateway says that it lives, and from where on others would have to read."""
        cluster, lows = self.claims.durable_position()
        self.run(self.claims.store.renew(lows, cluster))

    @precondition(lambda self: not self.bus.stopped)
    @rule()
    def crash(self) -> None:
        """Whatever was not written down is lost, and the gateway starts anew."""
        self.run(self.crash_and_start())

    async def crash_and_start(self) -> None:
        """End without a word, and start."""
        self.claims.journal._stopped = True
        self.claims.journal._hurry.set()
        if self.claims.journal._writing is not None:
            await asyncio.gather(self.claims.journal._writing, return_exceptions=True)
        await self.shelf.crash(self.claims.store)
        await self.start()

    @invariant()
    def no_message_stands_twice(self) -> None:
        """Whatever failed on the way."""
        doubled = [one for one, count in Counter(self.topic()).items() if count > 1]
        assert doubled == []

    @invariant()
    def nothing_acknowledged_is_missing(self) -> None:
        """A client that was told 200 need not send again."""
        assert self.acknowledged <= set(self.topic())

    def topic(self) -> list[str]:
        """The message ids on the topic."""
        return [dict(record.headers)["clew-message-id"].decode() for record in self.bus.read("clew.events.v1")]

    def teardown(self) -> None:
        """In good weather everything is settled, and the ledger has it all."""
        try:
            self.change("good")
            self.read_tail()
            counts = self.run(self.counts())
            published = len(self.topic())
            refused = len(self.bus.read("clew.events.failed.v1"))
            assert counts.get(PUBLISHED, 0) == published
            assert counts.get(RECEIVED, 0) == sum(counts.values()) - counts.get(RECEIVED, 0)
            assert sum(count for outcome, count in counts.items() if outcome > DUPLICATE) == refused
            # A copy that was answered is counted; one whose client got no answer may be, as it is part of no 200.
            assert counts.get(DUPLICATE, 0) == self.copies
            assert self.accepted <= published
            assert self.claims.in_flight() == 0
        finally:
            self.run(self.claims.close())
            self.loop.close()
            self.folder.cleanup()
            following.FOLLOW_SECONDS = self.patience  # type: ignore[misc]

    async def counts(self) -> dict[int, int]:
        """The ledger's, by outcome."""
        await self.claims.journal.kept()
        return {cell.outcome: count for cell, count in (await self.claims.store.ledger(ALL)).items()}


def limits(examples: int) -> settings:
    """How long to look."""
    checks = list(HealthCheck)
    return settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=checks)


def test_random_histories_on_sqlite() -> None:
    """Whatever happens, in whatever order."""
    run_state_machine_as_test(ClaimsMachine, settings=limits(60))


def test_random_histories_on_postgresql(postgres: Postgres) -> None:
    """The same, where claims are rows and a crashed gateway's are settled by the next."""

    class OnPostgres(ClaimsMachine):
        def make_shelf(self, folder: Path) -> Shelf:  # noqa: ARG002 - there is no file
            return PostgresShelf(postgres.new_database())

    run_state_machine_as_test(OnPostgres, settings=limits(20))
