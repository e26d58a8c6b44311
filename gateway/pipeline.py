"""The data path, top to bottom.

    edge -> decode -> admit -> [coalesce] -> claim -> resolve -> decide -> enrich -> alias -> publish

The edge, decode and admit run for each request (`gateway/http`, `gateway/decode`, `gateway/admission.py`); from
coalesce on, the requests of
one workspace travel together. Keys go out and deltas come back: no event body crosses an internal hop.

Failure policy, stage by stage:

| stage   | when its service fails                                            |
|---------|-------------------------------------------------------------------|
| claim   | closed: an event that may have been published is not published   |
| resolve | closed: nothing is acknowledged, the client is told to send again |
| decide  | closed: an event that was not decided is not published            |
| enrich  | closed: an event is published once, so it is published whole      |
| alias   | closed: nothing stands under a key whose alias does not          |
| publish | closed: 200 only after Kafka's acknowledgement                    |
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import structlog
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, Tracer

from clew.collector.v1.collector_service_pb2 import VERDICT_ACCEPTED, Verdict
from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.consent.v1.consent_service_pb2 import BatchCheckConsentsRequest, ConsentQuery
from clew.enrich.v1.enrich_service_pb2 import BatchEnrichEventsRequest, EnrichmentQuery
from clew.event.v1.event_pb2 import EVENT_TYPE_ALIAS
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.identity.v1.identity_service_pb2 import (
    BatchResolveIdentitiesRequest,
    IdentityQuery,
    ResolvedIdentity,
)
from gateway.aliases import Aliases, Merges
from gateway.batch import Admitted, Aliased, Allowed, Claimed, Decided, Enriched, Outcome, Owned, Resolved, Submission
from gateway.carrier import Abandon, Done, carried
from gateway.claims.claims import Claims
from gateway.claims.outcomes import settle_filtered
from gateway.coalesce import Coalescer, Company
from gateway.encode import Encoder, owned_events
from gateway.tap import Tap
from gateway.turn import Turn
from gateway.upstreams import Upstreams
from mesh.bus.port import DeliveryFailure, Record
from mesh.deadline import deadline_scope
from mesh.errors import BusUnavailable, DeadlineExceeded, Internal, InvalidArgument

_MAX_LINKS = 32
_STAGE_SECONDS = 5.0
# A copy takes over where the event before it failed; where that fails too, its client is told to send again.
_TRIES = 2
_IdentityKey = tuple[str, str, bool, str]
AnswerT = TypeVar("AnswerT")
_log = structlog.get_logger()


class Pipeline:
    """Carries admitted requests to Kafka, each workspace in its own sequence of batches."""

    def __init__(
        self,
        upstreams: Upstreams,
        claims: Claims,
        aliases: Aliases,
        encoder: Encoder,
        tracer: Tracer,
        *,
        tap: Tap | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._claims = claims
        self._aliases = aliases
        self._encoder = encoder
        self._tracer = tracer
        self._tap = tap or Tap()
        self._coalescers: dict[str, Coalescer[Submission]] = {}
        self._company = Company()

    def begin(self, submission: Submission, done: Done) -> Abandon:
        """Carry one request, see `Carrier.begin`."""
        workspace = submission.source.workspace
        coalescer = self._coalescers.get(workspace)
        if coalescer is None:
            coalescer = self._coalescers[workspace] = Coalescer(self._carry, company=self._company)
        return coalescer.begin(submission, lambda error: done(error or submission.error))

    async def submit(self, submission: Submission) -> None:
        """Carry one request; on return it has an outcome for each event.

        Raises:
            ClewError: The request as a whole was not acknowledged; nothing is promised about any of its events.
        """
        await carried(partial(self.begin, submission))

    async def drain(self) -> None:
        """Wait until all that was taken is acknowledged or refused."""
        await asyncio.gather(*(coalescer.drain() for coalescer in self._coalescers.values()))

    async def _carry(self, submissions: list[Submission], turn: Turn) -> None:
        admitted = Admitted(submissions[0].source.workspace, submissions, owned_events(submissions))
        seconds = _budget(submissions)
        try:
            async with asyncio.timeout(seconds):
                with self._batch_span(admitted), deadline_scope(seconds, fresh=True):
                    await self._carry_admitted(admitted, turn)
        except TimeoutError as error:
            raise DeadlineExceeded("the events were not acknowledged in time; send the same ones again") from error

    async def _carry_admitted(self, admitted: Admitted, turn: Turn) -> None:
        batch = admitted
        unpublished: list[tuple[Submission, int]] = []
        for _ in range(_TRIES):
            claimed = await self.claim(batch)
            await self._carry_claimed(claimed, turn)
            again = await self._claims.follow(claimed)
            unpublished += claimed.unpublished
            if again is None:
                break
            batch = again
        else:
            _give_up(batch)
        if unpublished:
            await self._claims.keep(unpublished)

    async def _carry_claimed(self, claimed: Claimed, turn: Turn) -> None:
        try:
            resolved = await self.resolve(claimed)
            if self._tap.open:
                self._tap.resolved(resolved)
            await turn.comes()
            decided = await self.decide(resolved)
            if self._tap.open:
                self._tap.decided(decided)
            enriched = await self.enrich(decided)
            if self._tap.open:
                self._tap.enriched(enriched)
            aliased = await self.alias(enriched)
            await self.publish(aliased, turn)
        finally:
            self._claims.release(claimed)

    async def claim(self, batch: Admitted) -> Claimed:
        """Is it new? An event that is on the topic already ends here; a copy of one that is under way waits for it."""
        return await self._claims.claim(batch)

    async def resolve(self, batch: Claimed) -> Resolved:
        """Who is it? Events that carry the same identifiers share one query."""
        if not batch.events:
            return Resolved(batch, [], {})
        keys, positions = _identity_keys(batch.events)
        request = BatchResolveIdentitiesRequest(
            workspace=batch.workspace,
            items=[
                IdentityQuery(
                    anonymous_id=anonymous_id, user_id=user_id, user_id_verified=proven, previous_id=previous_id
                )
                for anonymous_id, user_id, proven, previous_id in keys
            ],
        )
        response = await _answer("identity", self._upstreams.resolve(request, timeout=_STAGE_SECONDS))
        results = list(response.results)
        merges = {known.profile_id: known.merged_profile_ids for known in results if known.merged_profile_ids}
        if merges and (news := self._aliases.news(merges)):
            _move_merged(results, news)
        return Resolved(batch, [results[position] for position in positions], merges)

    async def decide(self, batch: Resolved) -> Decided:
        """Is it allowed? An event whose source collects for none of the allowed purposes ends here."""
        events = batch.claimed.events
        if not events:
            return Decided(batch.claimed, [], {})
        queries: dict[tuple[str, int], ConsentQuery] = {}
        keys: list[tuple[str, int]] = []
        for owned, identity in zip(events, batch.identities, strict=True):
            preferences = owned.event.context.category_preferences
            # Contexts are shared between events, and alive while the batch is, so that identity stands for equality.
            key = (identity.profile_id, 0 if preferences is None else id(preferences))
            keys.append(key)
            if key not in queries:
                queries[key] = ConsentQuery(
                    subject=identity.profile_id,
                    merged_subjects=batch.merges.get(identity.profile_id, ()),
                    category_preferences=preferences,
                )
        request = BatchCheckConsentsRequest(workspace=batch.claimed.workspace, items=queries.values())
        response = await _answer("consent", self._upstreams.check(request, timeout=_STAGE_SECONDS))
        decisions = dict(zip(queries, response.decisions, strict=True))
        allowed: list[Allowed] = []
        for owned, identity, key in zip(events, batch.identities, keys, strict=True):
            decision = decisions[key]
            if _permits(owned.submission, decision):
                allowed.append(Allowed(owned, identity, decision))
            else:
                settle_filtered(batch.claimed, owned)
        return Decided(batch.claimed, allowed, batch.merges)

    async def enrich(self, batch: Decided) -> Enriched:
        """What else is known? Only what may be kept is looked at; events in the same circumstances share one query."""
        if not batch.allowed:
            return Enriched(batch.claimed, [], [], {})
        queries: dict[tuple[str, str, str, str, str], int] = {}
        positions = [queries.setdefault(_circumstances(item.owned), len(queries)) for item in batch.allowed]
        request = BatchEnrichEventsRequest(
            items=[
                EnrichmentQuery(user_agent=agent, ip=ip, page_url=url, page_referrer=referrer, locale=locale)
                for agent, ip, url, referrer, locale in queries
            ]
        )
        response = await _answer("enrich", self._upstreams.enrich_events(request, timeout=_STAGE_SECONDS))
        serialized = [result.SerializeToString() for result in response.results]
        enrichments = [serialized[position] for position in positions]
        return Enriched(batch.claimed, batch.allowed, enrichments, batch.merges)

    async def alias(self, batch: Enriched) -> Aliased:
        """Who were they before? A merge is said, and acknowledged, before the first event that comes after it."""
        epochs = {profile_id: len(merged) for profile_id, merged in batch.merges.items()}
        if epochs and (news := self._aliases.news(batch.merges)):
            # Of whom no event is kept, nothing is said.
            kept = {item.identity.profile_id for item in batch.allowed}
            if needed := {profile_id: news[profile_id] for profile_id in news if profile_id in kept}:
                with self._publish_span(len(needed)):
                    await self._aliases.publish(batch.claimed.workspace, needed)
        return Aliased(batch.claimed, batch.allowed, batch.enrichments, epochs)

    async def publish(self, batch: Aliased, turn: Turn) -> None:
        """Hand everything to Kafka in order, let the next batch do so, then wait for the acknowledgements."""
        # While these events are encoded, identity works for the next ones.
        await turn.share()
        records, owners = self._records(batch)
        if not records:
            # What is left to do, to count it or to wait for another copy, must not hold up the next batch.
            turn.end()
            return
        for owner in owners:
            owner.mark_produced()
        with self._publish_span(len(records)):
            delivery = self._claims.produce(batch.claimed, batch.allowed, records)
            self._aliases.follow(delivery)
            # One visitor's events keep their order: what Kafka's producer has is not overtaken any more.
            turn.end()
            # Cancelling a batch must not cancel the future that the bus is going to resolve.
            failures = await asyncio.shield(delivery)
            if failures:
                _fail(failures, owners)
        for item in batch.allowed:
            event, submission = item.owned
            submission.outcomes[event.index] = Outcome(event.message_id, VERDICT_ACCEPTED)
        for submission in batch.claimed.submissions:
            _settle_rejected(submission)

    def _records(self, batch: Aliased) -> tuple[list[Record], list[Submission]]:
        records = self._encoder.events(batch.allowed, batch.enrichments, batch.epochs)
        owners = [item.owned.submission for item in batch.allowed]
        for submission in batch.claimed.submissions:
            for rejected in submission.decoded.rejected:
                records.append(self._encoder.failed(rejected, submission))
                owners.append(submission)
        return records, owners

    @contextmanager
    def _batch_span(self, batch: Admitted) -> Iterator[None]:
        """One span for the batch, in the trace of its first sampled request and linked to the others."""
        sampled = [submission.trace for submission in batch.submissions if submission.trace.trace_flags.sampled]
        parent = sampled[0] if sampled else batch.submissions[0].trace
        context = trace.set_span_in_context(NonRecordingSpan(parent))
        links = [Link(linked) for linked in sampled[1 : _MAX_LINKS + 1]]
        attributes = {"clew.batch.requests": len(batch.submissions), "clew.batch.events": len(batch.events)}
        with self._tracer.start_as_current_span("clew.batch", context, links=links, attributes=attributes):
            yield

    @contextmanager
    def _publish_span(self, count: int) -> Iterator[None]:
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": count,
        }
        with self._tracer.start_as_current_span("publish", kind=SpanKind.PRODUCER, attributes=attributes):
            yield


def _budget(submissions: list[Submission]) -> float:
    """Seconds that the batch may take: the earliest deadline of its requests, so that each is answered in time."""
    return min(submission.deadline for submission in submissions) - time.monotonic()


async def _answer(service: str, call: Awaitable[AnswerT]) -> AnswerT:
    """The answer of a call to a service."""
    try:
        return await call
    except InvalidArgument as error:
        # Events that break a contract were refused one by one before: what is wrong here is ours, and a 400 would make
        # the clients of the whole batch drop their events.
        _log.error("a service refused a batch", service=service, problem=str(error), **error.metadata)
    # Raised without its cause, whose traceback would keep the whole batch in memory until a garbage collection.
    raise Internal("a batch could not be carried; send the same events again")


def _identity_keys(events: list[Owned]) -> tuple[list[_IdentityKey], list[int]]:
    """The distinct queries in order, and for each event which of them answers it."""
    keys: list[_IdentityKey] = []
    known: dict[_IdentityKey, int] = {}
    positions: list[int] = []
    for owned in events:
        key = _identity_key(owned)
        position = known.get(key)
        if position is None:
            position = known[key] = len(keys)
            keys.append(key)
            anonymous_id, user_id, _, previous_id = key
            if user_id:
                # A login may move the visitor to another profile: the visitor's later events must be asked for anew.
                known.pop((anonymous_id, "", False, ""), None)
                known.pop((previous_id, "", False, ""), None)
        positions.append(position)
    return keys, positions


def _identity_key(owned: Owned) -> _IdentityKey:
    event, submission = owned
    previous_id = event.previous_id if event.type == EVENT_TYPE_ALIAS else ""
    return event.anonymous_id, event.user_id, event.index in submission.proven, previous_id


def _move_merged(results: list[ResolvedIdentity], news: Merges) -> None:
    """Give what a batch says of a profile that it merges itself, further on, to the profile that it was merged into.

    Under one key their order needs no barrier, which could not be above them yet.
    """
    into = {former: profile_id for profile_id, merged in news.items() for former in merged}
    for position, known in enumerate(results):
        if known.profile_id in into:
            results[position] = ResolvedIdentity(
                profile_id=into[known.profile_id], assurance=known.assurance, conflict=known.conflict
            )


def _circumstances(owned: Owned) -> tuple[str, str, str, str, str]:
    context = owned.event.context
    ip = context.ip or owned.submission.client_ip
    return context.user_agent, ip, context.page_url, context.page_referrer, context.locale


def _permits(submission: Submission, decision: ConsentDecision) -> bool:
    return not submission.source.purposes.isdisjoint(decision.granted_purposes)


def _settle_rejected(submission: Submission) -> None:
    for rejected in submission.decoded.rejected:
        duplicate = rejected.reason == FailureReason.FAILURE_REASON_DUPLICATE_MESSAGE_ID
        submission.outcomes[rejected.index] = Outcome(
            rejected.message_id,
            Verdict.VERDICT_DUPLICATE if duplicate else Verdict.VERDICT_REJECTED,
            failure_reason=rejected.reason,
            detail=rejected.detail,
        )


def _give_up(batch: Admitted) -> None:
    """Refuse the requests of events whose other copy failed, and which failed themselves."""
    for owned in batch.events:
        owned.submission.error = BusUnavailable("an event was not acknowledged; send the same events again")


def _fail(failures: list[DeliveryFailure], owners: list[Submission]) -> None:
    """Refuse the requests of which a record was not acknowledged; the other requests of the batch stand."""
    for failure in failures:
        error = BusUnavailable(failure.detail) if failure.retriable else Internal(failure.detail)
        owners[failure.index].error = error
    trace.get_current_span().set_status(trace.Status(trace.StatusCode.ERROR, failures[0].detail))
