"""The gateway in one process, from bytes to records: its real parts, with services that are called without a network.

The services check every request against the contract as the real ones do. A request that breaks it is a fault of the
gateway, which the client sees as a 500.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from google.protobuf.message import Message
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from gateway.admission import Admission
from gateway.aliases import Aliases
from gateway.claims.claims import Claims
from gateway.collect import Collector
from gateway.encode import Encoder
from gateway.http.message import Headers, Request
from gateway.http.router import Router
from gateway.limits.limiter import Limiter
from gateway.limits.tarpit import Tarpit
from gateway.pipeline import Pipeline
from gateway.routes.collect import PATHS, CollectHandler
from gateway.sources import Source, Sources, hash_key
from gateway.stats import Stats
from gateway.upstreams import Upstreams
from mesh.bus.memory import MemoryBus
from mesh.bus.tail import MemoryTail
from mesh.jwt import IssuerVerifiers
from mesh.validation import validate
from tests.gateway.memory_claims import MemoryClaims
from tests.gateway.scripted import SOURCE, ScriptedConsent, ScriptedEnrich, ScriptedIdentity

KEY = "k1"
FRAME_BYTES = 6
_Method = Callable[[Any, Any], Awaitable[Message]]


class _Context:
    """What the scripted services ask of a call."""

    def time_remaining(self) -> float:
        """Any time."""
        return 5.0

    def invocation_metadata(self) -> tuple[()]:
        """Nothing travels beside a direct call."""
        return ()


class ContractBroken(Exception):
    """The gateway sent what a service refuses."""


def _call(method: _Method) -> Callable[..., Awaitable[Message]]:
    async def call(request: Message, timeout: float | None = None) -> Message:  # noqa: ASYNC109 - gRPC's parameter
        assert timeout is not None
        try:
            validate(request)
        except Exception as error:
            raise ContractBroken(str(error)) from error
        return await method(request, _Context())

    return call


class _Stub:
    """One service, called directly."""

    def __init__(self, servicer: object) -> None:
        self._servicer = servicer

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Message]]:
        return _call(getattr(self._servicer, name))


def upstreams() -> Upstreams:
    """Scripted services without servers."""
    who, may, more = (
        cast(Any, _Stub(servicer)) for servicer in (ScriptedIdentity(), ScriptedConsent(), ScriptedEnrich())
    )
    return Upstreams(who, (), who.BatchResolveIdentities, may.BatchCheckConsents, more.BatchEnrichEvents)


@dataclass(slots=True)
class Whole:
    """A gateway with one source, or more by key; requests go to `router.handle`."""

    sources: dict[str, Source] = field(default_factory=lambda: {KEY: SOURCE})
    limiter: Limiter = field(default_factory=lambda: Limiter(NoOpMeter("test")))
    tarpit: Tarpit = field(default_factory=lambda: Tarpit(0))
    trust_forwarded: bool = True
    bus: MemoryBus = field(default_factory=MemoryBus)
    router: Router = field(default_factory=Router)
    collector: Collector = field(init=False)

    def __post_init__(self) -> None:
        sources = Sources({hash_key(key): source for key, source in self.sources.items()})
        admission = Admission(sources, IssuerVerifiers([]))
        claims = Claims(MemoryClaims(), self.bus)
        claims.begin("test", {})
        encoder = Encoder(event_schema_id=1, failed_schema_id=2, origin="test")
        aliases = Aliases(self.bus, MemoryTail(self.bus), schema_id=3)
        pipeline = Pipeline(upstreams(), claims, aliases, encoder, NoOpTracer())
        stats = Stats(NoOpMeter("test"))
        self.collector = Collector(admission, self.limiter, pipeline, stats, request_seconds=5.0)
        for path in PATHS:
            handler = CollectHandler(
                self.collector, NoOpTracer(), path, trust_forwarded=self.trust_forwarded, tarpit=self.tarpit
            )
            self.router.add("POST", path, handler)

    def published(self) -> list[EnrichedEvent]:
        """The events on the topic, oldest first."""
        return [EnrichedEvent.FromString(record.value[FRAME_BYTES:]) for record in self.bus.read("clew.events.v1")]

    def failed(self) -> list[FailedEvent]:
        """The failed events on theirs."""
        return [FailedEvent.FromString(record.value[FRAME_BYTES:]) for record in self.bus.read("clew.events.failed.v1")]


def request(body: bytes, path: str = "/v1/batch", **fields: str) -> Request:
    """A request as the edge hands it to the router."""
    headers = {
        "host": "clew.test",
        "x-write-key": KEY,
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    return Request("POST", path, "", Headers.of(headers.items()), body, "192.0.2.1", 1_795_446_670_000_000_000)
