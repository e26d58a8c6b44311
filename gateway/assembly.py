"""The gateway's objects: the one place where they are made and tied to one another, from what is given from outside."""

import os
import signal
from dataclasses import dataclass, field

import structlog

from clew.audit.v1.audit_entry_pb2 import AuditEntry
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from gateway.admin.debug_service import EdgeDebugServicer
from gateway.admin.directory import Directory
from gateway.admin.failed_event_service import FailedEventServicer
from gateway.admin.service import SourceServicer
from gateway.admission import Admission
from gateway.aliases import Aliases
from gateway.carrier import Carrier
from gateway.claims.claims import Claims
from gateway.claims.port import ClaimStore
from gateway.claims.recovery import Recovery
from gateway.collect import Collector
from gateway.encode import Encoder
from gateway.http.cors import Cors
from gateway.http.message import Handler
from gateway.http.router import Router
from gateway.http.server import HttpServer
from gateway.ledger.gauges import add_gauges
from gateway.ledger.service import LedgerServicer, nothing
from gateway.limits.limiter import Limiter
from gateway.limits.tarpit import Tarpit
from gateway.pipeline import Pipeline
from gateway.redrive.acting import ActingFor
from gateway.redrive.audit import AuditLog
from gateway.redrive.redriver import Redriver
from gateway.routes.admin import stats_handler
from gateway.routes.browser import add_browser_routes
from gateway.routes.collect import PATHS, CollectHandler
from gateway.routes.docs import add_docs_routes
from gateway.routes.health import add_health_routes
from gateway.routes.registry import Schemas, add_elsewhere_routes, add_registry_routes, contracts_registry
from gateway.routes.rpcs import OwnRpcs, rpc_transcoder
from gateway.settings import GatewaySettings
from gateway.sources import Source
from gateway.spool.forward import Forward
from gateway.spool.forward import add_gauges as add_spool_gauges
from gateway.spool.spool import Spool
from gateway.stats import Stats
from gateway.tap import Tap
from gateway.tokens import token_verifiers
from gateway.transcode.transcoder import Transcoder
from gateway.upstreams import Upstreams
from mesh.bus.port import Bus
from mesh.bus.tail import EndReader, Tail
from mesh.clock import Clock, SystemClock
from mesh.telemetry import Telemetry


@dataclass(slots=True)
class Outside:
    """What a gateway is given. `patience_seconds` is that of a spool, where there is one."""

    settings: GatewaySettings
    directory: Directory
    store: ClaimStore
    bus: Bus
    tail: Tail
    ends: EndReader
    telemetry: Telemetry
    spool: Spool | None = None
    patience_seconds: float = 0.0
    schemas: Schemas = field(default_factory=lambda: Schemas(contracts_registry().table.messages))
    clock: Clock = field(default_factory=SystemClock)


class Gateway:
    """All that the process is made of, in the order in which events pass it. Nothing is bound or connected yet."""

    def __init__(self, given: Outside) -> None:
        settings, telemetry = given.settings, given.telemetry
        self._given = given
        self.upstreams = Upstreams.open(
            identity=settings.identity, consent=settings.consent, enrich=settings.enrich, telemetry=telemetry
        )
        self.admission = Admission(
            given.directory.sources,
            token_verifiers(settings, self.upstreams),
            {settings.issuer, *settings.admin_issuers},
        )
        self.limiter = Limiter(telemetry.meter, settings.default_limits, settings.bounds)
        self.stats = Stats(telemetry.meter)
        self.tap = Tap()
        self.claims = Claims(given.store, given.bus, _end_process)
        self.recovery = Recovery(self.claims, given.tail)
        self.pipeline = self._pipeline()
        self.forward = self._forward(given.spool) if given.spool else None
        self.carrier: Carrier = self.forward.carrier if self.forward else self.pipeline
        self.collector = self._collector(self.admission)
        self.rpcs = self._rpcs()
        self.transcoder: Transcoder = rpc_transcoder(
            self.admission, self.upstreams, self.rpcs, telemetry.tracer, settings
        )
        self.router = self._router()
        add_gauges(telemetry.meter, self.claims)

    def http_server(self) -> HttpServer:
        """The HTTP edge over the router, with CORS around it."""
        cors = Cors()
        handler: Handler = cors.wrap(self.router.handle)
        limits = self._given.settings.http_limits
        return HttpServer(handler, limits, decorate=cors.decorate, find_direct=self.router.find_direct)

    async def drain(self) -> None:
        """Finish what was taken, then let go of Kafka and the services. What is in the spool stays for the next run."""
        if self.forward:
            await self.forward.stop()
        await self.pipeline.drain()
        await self._given.bus.close()
        self.transcoder.close()
        await self.recovery.close()
        await self.claims.close()
        if self.forward:
            await self.forward.close()
        await self.upstreams.close()

    def _pipeline(self) -> Pipeline:
        given, ids, origin = self._given, self._given.schemas.ids, self._given.store.owner
        encoder = Encoder(
            event_schema_id=ids[EnrichedEvent.DESCRIPTOR.full_name],
            failed_schema_id=ids[FailedEvent.DESCRIPTOR.full_name],
            origin=origin,
        )
        aliases = Aliases(given.bus, given.ends, schema_id=ids[ProfileChanged.DESCRIPTOR.full_name], origin=origin)
        return Pipeline(self.upstreams, self.claims, aliases, encoder, given.telemetry.tracer, tap=self.tap)

    def _forward(self, spool: Spool) -> Forward:
        given = self._given
        add_spool_gauges(given.telemetry.meter, spool)
        return Forward(
            spool,
            self.pipeline,
            given.bus,
            lambda: self.claims.settled,
            patience_seconds=given.patience_seconds,
            request_seconds=given.settings.request_seconds,
            stats=self.stats,
            tap=self.tap,
        )

    def _collector(self, admission: Admission) -> Collector:
        seconds = self._given.settings.request_seconds
        return Collector(admission, self.limiter, self.carrier, self.stats, request_seconds=seconds, tap=self.tap)

    def _rpcs(self) -> OwnRpcs:
        given, admission, clock = self._given, self.admission, self._given.clock
        log = AuditLog(
            given.bus,
            given.tail,
            clock,
            schema_id=given.schemas.ids[AuditEntry.DESCRIPTOR.full_name],
            origin=given.store.owner,
        )

        def collector_for(source: Source) -> Collector:
            return self._collector(ActingFor(source))

        redriver = Redriver(given.tail, log, given.directory.source, collector_for, clock)
        return OwnRpcs(
            collector=self.collector,
            failed=FailedEventServicer(redriver, admission),
            sources=SourceServicer(given.directory, admission, clock),
            debug=EdgeDebugServicer(self.tap, admission, clock),
            ledger=LedgerServicer(admission, self.claims, given.spool.waiting if given.spool else nothing),
        )

    def _router(self) -> Router:
        given, settings, router = self._given, self._given.settings, Router()
        tracer, trust_forwarded = given.telemetry.tracer, settings.trust_forwarded
        tarpit = Tarpit(settings.refusal_seconds)
        for path in PATHS:
            handler = CollectHandler(self.collector, tracer, path, trust_forwarded=trust_forwarded, tarpit=tarpit)
            router.add("POST", path, handler)
        router.add("GET", "/v1/admin/stats", stats_handler(self.admission, self.stats))
        add_browser_routes(router, self.admission.knows, settings.public_url)
        if given.schemas.registry_url:
            add_elsewhere_routes(router, given.schemas.registry_url)
        else:
            add_registry_routes(router, contracts_registry())
        add_health_routes(router, self._not_ready, self.forward.status if self.forward else None)
        add_docs_routes(router)
        router.serve_templates(self.transcoder.find)
        return router

    def _not_ready(self) -> list[str]:
        return [*self.upstreams.not_ready(), *(() if self.claims.recovered else ("kafka",))]


def _end_process() -> None:
    """Stop in order: others hold this gateway for dead, and only a new one may publish again."""
    structlog.get_logger().error("this gateway's lease is lost: it ends, and must be started anew")
    os.kill(os.getpid(), signal.SIGTERM)
