"""The three services behind the gateway, scripted: real servers that answer by the contract and do what a test says.

Each keeps the requests that it saw, and can be held, made slow to answer, or made to refuse.
"""

import asyncio
import gc
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

from clew.consent.v1 import consent_service_pb2 as consent
from clew.consent.v1.consent_pb2 import ConsentBasis, ConsentDecision
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceServicer, add_ConsentServiceServicer_to_server
from clew.enrich.v1 import enrich_service_pb2 as enrich
from clew.enrich.v1.enrich_service_pb2_grpc import EnrichServiceServicer, add_EnrichServiceServicer_to_server
from clew.enrich.v1.enrichment_pb2 import Client, Enrichment
from clew.identity.v1 import identity_service_pb2 as identity
from clew.identity.v1.identifier_pb2 import Assurance
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceServicer, add_IdentityServiceServicer_to_server
from clew.options.v1.privacy_pb2 import Purpose
from gateway.aliases import Aliases
from gateway.batch import Submission
from gateway.claims.claims import Claims
from gateway.claims.port import ClaimStore
from gateway.claims.recovery import Recovery
from gateway.claims.sqlite import SqliteClaims
from gateway.decode import decode_request
from gateway.encode import Encoder
from gateway.pipeline import Pipeline
from gateway.sources import Source
from gateway.upstreams import Upstreams
from mesh.bus.memory import MemoryBus
from mesh.bus.tail import EndReader, MemoryTail
from mesh.deadline import remaining
from mesh.errors import ClewError
from mesh.streams.server import StreamOf
from tests.mesh.rpc import Recorder, running_mesh

RequestT = TypeVar("RequestT")
_MOST_PROFILE_CHARS = 64
RECEIVED_NS = 1_795_446_670_000_000_000
ALL_PURPOSES = [number for number in Purpose.values() if number]
SOURCE = Source("shop", "web", frozenset({Purpose.PURPOSE_ANALYTICS}))


@dataclass(slots=True)
class Script(Generic[RequestT]):
    """What a service saw, and what it is to do."""

    requests: list[RequestT] = field(default_factory=list)
    seconds_left: list[float] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    spans: list[SpanContext] = field(default_factory=list)
    cancelled: int = 0
    error: ClewError | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def play(self, request: RequestT, context: Any) -> None:
        """Note the request, wait while the gate is shut, refuse when told to."""
        self.requests.append(request)
        self.seconds_left.append(remaining(math.inf))
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.spans.append(get_current_span().get_span_context())
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error


Resolve = Callable[[identity.IdentityQuery], identity.ResolvedIdentity]


def plain_identity(query: identity.IdentityQuery) -> identity.ResolvedIdentity:
    """A profile named after the user, or else after the visitor."""
    if query.user_id:
        assurance = Assurance.ASSURANCE_VERIFIED if query.user_id_verified else Assurance.ASSURANCE_ASSERTED
        return identity.ResolvedIdentity(profile_id=_named(query.user_id), assurance=assurance)
    return identity.ResolvedIdentity(profile_id=_named(query.anonymous_id), assurance=Assurance.ASSURANCE_ANONYMOUS)


def _named(identifier: str) -> str:
    """A profile id that tests can read; the contract lets it have no more than 64 characters."""
    short = len(identifier) <= _MOST_PROFILE_CHARS - 2
    return f"p-{identifier if short else hashlib.sha256(identifier.encode()).hexdigest()[: _MOST_PROFILE_CHARS - 2]}"


class ScriptedIdentity(IdentityServiceServicer):
    """Resolves each query by itself, by a function that tests may replace."""

    def __init__(self) -> None:
        self.script: Script[identity.BatchResolveIdentitiesRequest] = Script()
        self.resolve: Resolve = plain_identity
        self.jwks_json = '{"keys":[]}'
        self.jwks_calls = 0

    async def BatchResolveIdentities(  # noqa: N802 - the contract's name
        self,
        request: identity.BatchResolveIdentitiesRequest,
        context: Any,
    ) -> identity.BatchResolveIdentitiesResponse:
        """Result i answers item i."""
        await self.script.play(request, context)
        return identity.BatchResolveIdentitiesResponse(results=[self.resolve(item) for item in request.items])

    StreamResolveIdentities = StreamOf(BatchResolveIdentities, identity.StreamResolveIdentitiesResponse)  # type: ignore[assignment]

    async def GetJwks(  # noqa: N802 - the contract's name
        self,
        request: identity.GetJwksRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002 - grpc's signature
    ) -> identity.GetJwksResponse:
        """The keys that the test set."""
        self.jwks_calls += 1
        return identity.GetJwksResponse(jwks_json=self.jwks_json)

    # The gateway calls no other rpc of the service.
    GetProfile = IssueToken = GetJwks  # type: ignore[assignment]


class ScriptedConsent(ConsentServiceServicer):
    """Allows everything, save to those who refused, under any of their ids, and what a false category takes away."""

    def __init__(self) -> None:
        self.script: Script[consent.BatchCheckConsentsRequest] = Script()
        self.refused: set[str] = set()

    async def BatchCheckConsents(  # noqa: N802 - the contract's name
        self,
        request: consent.BatchCheckConsentsRequest,
        context: Any,
    ) -> consent.BatchCheckConsentsResponse:
        """Decision i answers item i."""
        await self.script.play(request, context)
        return consent.BatchCheckConsentsResponse(decisions=[self._decide(item) for item in request.items])

    StreamCheckConsents = StreamOf(BatchCheckConsents, consent.StreamCheckConsentsResponse)  # type: ignore[assignment]

    # The gateway calls no other rpc of the service.
    RecordConsent = ListConsentHistory = BatchCheckConsents  # type: ignore[assignment]

    def _decide(self, query: consent.ConsentQuery) -> ConsentDecision:
        names = {query.subject, *query.merged_subjects}
        granted = [] if names & self.refused or False in query.category_preferences.values() else ALL_PURPOSES
        return ConsentDecision(granted_purposes=granted, epoch=1, basis=ConsentBasis.CONSENT_BASIS_RECORDED)


class ScriptedEnrich(EnrichServiceServicer):
    """Takes the user agent for the browser's name."""

    def __init__(self) -> None:
        self.script: Script[enrich.BatchEnrichEventsRequest] = Script()

    async def BatchEnrichEvents(  # noqa: N802 - the contract's name
        self,
        request: enrich.BatchEnrichEventsRequest,
        context: Any,
    ) -> enrich.BatchEnrichEventsResponse:
        """Result i answers item i."""
        await self.script.play(request, context)
        return enrich.BatchEnrichEventsResponse(
            results=[Enrichment(client=Client(browser=item.user_agent)) for item in request.items]
        )

    StreamEnrichEvents = StreamOf(BatchEnrichEvents, enrich.StreamEnrichEventsResponse)  # type: ignore[assignment]


@dataclass(slots=True)
class Stage:
    """A pipeline over the three services and a bus in memory, all of whose spans are kept."""

    identity: ScriptedIdentity
    consent: ScriptedConsent
    enrich: ScriptedEnrich
    upstreams: Upstreams
    bus: MemoryBus
    recorder: Recorder
    claims: Claims
    recovery: Recovery
    aliases: Aliases
    pipeline: Pipeline

    def scripts(self) -> dict[str, Script[Any]]:
        """The scripts by the service's name."""
        return {"identity": self.identity.script, "consent": self.consent.script, "enrich": self.enrich.script}

    def published(self) -> list[str]:
        """The message ids on the events topic, oldest first."""
        return [_header(record.headers, "clew-message-id") for record in self.bus.read("clew.events.v1")]


def _header(headers: list[tuple[str, bytes]], wanted: str) -> str:
    (value,) = (value for name, value in headers if name == wanted)
    return value.decode()


@asynccontextmanager
async def running_stage(
    bus: MemoryBus | None = None, store: ClaimStore | None = None, ends: EndReader | None = None
) -> AsyncIterator[Stage]:
    """Start the services on free ports, connect, and make a pipeline; without a store, on a temporary one."""
    who, may, more = ScriptedIdentity(), ScriptedConsent(), ScriptedEnrich()
    recorder, server_side = Recorder(), Recorder()
    async with running_mesh() as mesh:
        ports = [
            (await mesh.serve(server_side, register))[1]
            for register in (
                lambda server: add_IdentityServiceServicer_to_server(who, server),
                lambda server: add_ConsentServiceServicer_to_server(may, server),
                lambda server: add_EnrichServiceServicer_to_server(more, server),
            )
        ]
        targets = [f"127.0.0.1:{port}" for port in ports]
        upstreams = Upstreams.open(
            identity=targets[0], consent=targets[1], enrich=targets[2], telemetry=recorder.telemetry
        )
        await upstreams.wait_ready(10)
        bus = bus or MemoryBus()
        store = store or await SqliteClaims.open(None)
        claims = Claims(store, bus)
        recovery = Recovery(claims, MemoryTail(bus), settle_seconds=0.0)
        recovery.start()
        await recovery.wait_begun(5.0)
        encoder = Encoder(event_schema_id=1, failed_schema_id=2, origin=store.owner)
        aliases = Aliases(bus, ends or MemoryTail(bus), schema_id=3, origin=store.owner)
        pipeline = Pipeline(upstreams, claims, aliases, encoder, recorder.telemetry.tracer)
        yield Stage(who, may, more, upstreams, bus, recorder, claims, recovery, aliases, pipeline)
        for script in (who.script, may.script, more.script):
            script.gate.set()
        await recovery.close()
        await claims.close()
        await upstreams.close()


def trace_of(number: int, *, sampled: bool = True) -> SpanContext:
    """The span of a request, by number."""
    return SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(sampled))


def kept_submissions(others: Sequence[Submission] = ()) -> list[Submission]:
    """The requests that are in memory, besides those that other tests have left there."""
    found = [kept for kept in gc.get_objects() if isinstance(kept, Submission)]
    return [kept for kept in found if not any(kept is other for other in others)]


def submission(
    body: bytes,
    *,
    seconds: float = 8.0,
    source: Source = SOURCE,
    trace: SpanContext | None = None,
    proven: frozenset[int] = frozenset(),
) -> Submission:
    """An admitted request with this body."""
    return Submission(
        source=source,
        decoded=decode_request(body, None, RECEIVED_NS),
        trace=trace or trace_of(1, sampled=False),
        received_ns=RECEIVED_NS,
        client_ip="203.0.113.7",
        deadline=time.monotonic() + seconds,
        size=len(body),
        proven=proven,
    )
