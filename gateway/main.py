"""The gateway process: the one place where its objects are made."""

import asyncio
import os
import signal
from dataclasses import dataclass

import structlog

from clew.audit.v1.audit_entry_pb2 import AuditEntry
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from gateway.admin.debug_service import EdgeDebugServicer
from gateway.admin.directory import Directory
from gateway.admin.failed_event_service import FailedEventServicer
from gateway.admin.opening import open_store as open_source_store
from gateway.admin.service import SourceServicer
from gateway.admission import Admission
from gateway.aliases import Aliases
from gateway.claims.claims import Claims
from gateway.claims.opening import open_store
from gateway.claims.port import ClaimStore
from gateway.claims.recovery import Recovery
from gateway.claims.settings import ClaimsSettings
from gateway.collect import Collector
from gateway.encode import Encoder
from gateway.http.cors import Cors
from gateway.http.limits import HttpLimits
from gateway.http.message import Handler
from gateway.http.router import Router
from gateway.http.server import HttpServer
from gateway.ledger.gauges import add_gauges
from gateway.ledger.service import LedgerServicer, nothing
from gateway.limits.limiter import Limiter
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
from gateway.routes.rpcs import OWN_SERVICES, OwnRpcs, rpc_transcoder
from gateway.settings import GatewaySettings
from gateway.sources import Source, Sources
from gateway.spool.forward import Forward, open_spool
from gateway.spool.forward import add_gauges as add_spool_gauges
from gateway.spool.settings import SpoolSettings
from gateway.spool.spool import Spool
from gateway.stats import Stats
from gateway.tap import Tap
from gateway.tokens import token_verifiers
from gateway.transcode.transcoder import Transcoder
from gateway.upstreams import Upstreams
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings
from mesh.bus.kafka_ends import KafkaEnds
from mesh.bus.kafka_tail import KafkaTail
from mesh.bus.port import Bus
from mesh.bus.tail import EndReader, Tail
from mesh.clock import SystemClock
from mesh.errors import ClewError
from mesh.logs import configure_logs
from mesh.process import run_process, stop_signal
from mesh.registry.deployed import published_ids
from mesh.registry.outside import RegistrySettings
from mesh.server import GrpcServer, ServerSettings, serve_until_stopped
from mesh.settings import SettingsError, read_settings
from mesh.telemetry import Telemetry, start_telemetry

NAME = "gateway"
SERVICES = [service.full_name for service in OWN_SERVICES]
_UPSTREAM_SECONDS = 10.0


@dataclass(slots=True)
class Gateway:
    """All that the process is made of, in the order in which events pass it."""

    router: Router
    collector: Collector
    pipeline: Pipeline
    transcoder: Transcoder
    upstreams: Upstreams
    claims: Claims
    recovery: Recovery
    rpcs: OwnRpcs
    bus: Bus
    tap: Tap
    http_limits: HttpLimits
    forward: Forward | None

    @classmethod
    def build(
        cls,
        settings: GatewaySettings,
        directory: Directory,
        store: ClaimStore,
        kafka: tuple[Bus, Tail, EndReader],
        telemetry: Telemetry,
        *,
        spool: Spool | None = None,
        patience_seconds: float = 0.0,
        schemas: Schemas | None = None,
    ) -> "Gateway":
        """Make the objects; nothing is bound yet. Patience is that of a spool, where there is one."""
        schemas = schemas or Schemas(contracts_registry().table.messages)
        bus, tail, ends = kafka
        upstreams = Upstreams.open(
            identity=settings.identity, consent=settings.consent, enrich=settings.enrich, telemetry=telemetry
        )
        encoder = Encoder(
            event_schema_id=schemas.ids[EnrichedEvent.DESCRIPTOR.full_name],
            failed_schema_id=schemas.ids[FailedEvent.DESCRIPTOR.full_name],
            origin=store.owner,
        )
        stats = Stats(telemetry.meter)
        admission = Admission(
            directory.sources, token_verifiers(settings, upstreams), {settings.issuer, *settings.admin_issuers}
        )
        tap = Tap()
        claims = Claims(store, bus, _end_process)
        schema_id = schemas.ids[ProfileChanged.DESCRIPTOR.full_name]
        aliases = Aliases(bus, ends, schema_id=schema_id, origin=store.owner)
        pipeline = Pipeline(upstreams, claims, aliases, encoder, telemetry.tracer, tap=tap)
        forward: Forward | None = None
        if spool:
            forward = Forward(
                spool,
                pipeline,
                bus,
                lambda: claims.settled,
                patience_seconds=patience_seconds,
                request_seconds=settings.request_seconds,
                stats=stats,
                tap=tap,
            )
            add_spool_gauges(telemetry.meter, spool)
        limiter = Limiter(telemetry.meter, settings.default_limits, settings.bounds)
        carrier = forward.carrier if forward else pipeline
        collector = Collector(admission, limiter, carrier, stats, request_seconds=settings.request_seconds, tap=tap)
        router = _router(collector, telemetry, trust_forwarded=settings.trust_forwarded)
        router.add("GET", "/v1/admin/stats", stats_handler(admission, stats))
        add_browser_routes(router, admission.knows, settings.public_url)
        if schemas.registry_url:
            add_elsewhere_routes(router, schemas.registry_url)
        else:
            add_registry_routes(router, contracts_registry())
        add_health_routes(
            router,
            lambda: [*upstreams.not_ready(), *(() if claims.recovered else ("kafka",))],
            forward.status if forward else None,
        )
        add_gauges(telemetry.meter, claims)
        add_docs_routes(router)
        clock = SystemClock()

        def collector_for(source: Source) -> Collector:
            seconds = settings.request_seconds
            return Collector(ActingFor(source), limiter, carrier, stats, request_seconds=seconds, tap=tap)

        schema_id = schemas.ids[AuditEntry.DESCRIPTOR.full_name]
        log = AuditLog(bus, tail, clock, schema_id=schema_id, origin=store.owner)
        redriver = Redriver(tail, log, directory.source, collector_for, clock)
        own = OwnRpcs(
            collector=collector,
            failed=FailedEventServicer(redriver, admission),
            sources=SourceServicer(directory, admission, clock),
            debug=EdgeDebugServicer(tap, admission, clock),
            ledger=LedgerServicer(admission, claims, spool.waiting if spool else nothing),
        )
        transcoder = rpc_transcoder(admission, upstreams, own, telemetry.tracer, settings)
        router.serve_templates(transcoder.find)
        return cls(
            router=router,
            collector=collector,
            pipeline=pipeline,
            transcoder=transcoder,
            upstreams=upstreams,
            claims=claims,
            recovery=Recovery(claims, tail),
            rpcs=own,
            bus=bus,
            tap=tap,
            http_limits=settings.http_limits,
            forward=forward,
        )

    def http_server(self) -> HttpServer:
        """The HTTP edge over the router, with CORS around it."""
        cors = Cors()
        handler: Handler = cors.wrap(self.router.handle)
        return HttpServer(handler, self.http_limits, decorate=cors.decorate, find_direct=self.router.find_direct)

    async def drain(self) -> None:
        """Finish what was taken, then let go of Kafka and the services. What is in the spool stays for the next run."""
        if self.forward:
            await self.forward.stop()
        await self.pipeline.drain()
        await self.bus.close()
        self.transcoder.close()
        await self.recovery.close()
        await self.claims.close()
        if self.forward:
            await self.forward.close()
        await self.upstreams.close()


def _router(collector: Collector, telemetry: Telemetry, *, trust_forwarded: bool) -> Router:
    """A router with every path that takes events."""
    router = Router()
    for path in PATHS:
        router.add("POST", path, CollectHandler(collector, telemetry.tracer, path, trust_forwarded=trust_forwarded))
    return router


async def serve() -> None:
    """Read the settings, connect, serve until told to stop, drain: the edge first, Kafka last."""
    server_settings, settings = read_settings(ServerSettings), read_settings(GatewaySettings)
    configure_logs(NAME, server_settings.log_level)
    telemetry = start_telemetry(NAME, server_settings.data_dir, os.environ)
    # Before anything connects: what is wrong with a file shall not be told after what is wrong with the network.
    sources = Sources.load(settings.sources_file)
    claims_settings, kafka = read_settings(ClaimsSettings), read_settings(KafkaSettings)
    spool_settings, registry = read_settings(SpoolSettings), read_settings(RegistrySettings)
    ids = await published_ids(registry, contracts_registry().table, server_settings.data_dir)
    directory = Directory(
        sources, await open_source_store(claims_settings.database, server_settings.data_dir), SystemClock()
    )
    store = await open_store(claims_settings, server_settings.data_dir)
    spool = await open_spool(spool_settings, server_settings.data_dir)
    gateway = Gateway.build(
        settings,
        directory,
        store,
        (KafkaBus(kafka), KafkaTail(kafka), KafkaEnds(kafka)),
        telemetry,
        spool=spool,
        patience_seconds=spool_settings.patience_seconds,
        schemas=Schemas(ids, registry.url),
    )
    http = gateway.http_server()
    server = GrpcServer(NAME, server_settings, telemetry)
    gateway.rpcs.register(server.server, SystemClock())
    try:
        await directory.start()
        await _connect(gateway)
        await _listen(http, settings)
        stop = stop_signal()
        async with asyncio.TaskGroup() as doors:
            doors.create_task(serve_until_stopped(server, SERVICES, stop=stop))
            doors.create_task(_close_edge(gateway, http, stop, server_settings.drain_seconds))
    finally:
        await gateway.drain()
        await directory.close()
        telemetry.shutdown()


async def _connect(gateway: Gateway) -> None:
    """Wait for what is behind, a bounded time: a gateway whose services are down serves too, and answers 503."""
    gateway.recovery.start()
    if gateway.forward:
        gateway.forward.start()
    results = await asyncio.gather(
        gateway.upstreams.wait_ready(_UPSTREAM_SECONDS),
        gateway.recovery.wait_begun(_UPSTREAM_SECONDS),
        return_exceptions=True,
    )
    for failure in results:
        if isinstance(failure, ClewError):
            structlog.get_logger().warning("not ready", problem=str(failure))
        elif failure is not None:
            raise failure


async def _listen(http: HttpServer, settings: GatewaySettings) -> None:
    try:
        port = await http.start(settings.http_host, settings.http_port)
    except OSError as error:
        address = f"{settings.http_host}:{settings.http_port}"
        raise SettingsError(
            [f"CLEW_HTTP_PORT: {address} cannot be bound: {error.strerror}. Use a free port"]
        ) from error
    structlog.get_logger().info("http", host=settings.http_host, port=port)


async def _close_edge(gateway: Gateway, http: HttpServer, stop: asyncio.Event, seconds: float) -> None:
    await stop.wait()
    # Those who watch would hold up the drain to its last second.
    gateway.tap.close()
    await http.drain(seconds)


def _end_process() -> None:
    """Stop in order: others hold this gateway for dead, and only a new one may publish again."""
    structlog.get_logger().error("this gateway's lease is lost: it ends, and must be started anew")
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the process."""
    run_process(serve)
