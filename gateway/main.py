"""The gateway process: reads its settings, opens what it stands on, serves and drains."""

import asyncio
import os

import structlog

from gateway.admin.directory import Directory
from gateway.admin.opening import open_store as open_source_store
from gateway.assembly import Gateway, Outside
from gateway.claims.opening import open_store
from gateway.claims.settings import ClaimsSettings
from gateway.http.server import HttpServer
from gateway.routes.registry import Schemas, contracts_registry
from gateway.routes.rpcs import OWN_SERVICES
from gateway.settings import GatewaySettings
from gateway.sources import Sources
from gateway.spool.forward import open_spool
from gateway.spool.settings import SpoolSettings
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings
from mesh.bus.kafka_ends import KafkaEnds
from mesh.bus.kafka_tail import KafkaTail
from mesh.clock import SystemClock
from mesh.errors import ClewError
from mesh.logs import configure_logs
from mesh.process import run_process, stop_signal
from mesh.registry.deployed import published_ids
from mesh.registry.outside import RegistrySettings
from mesh.server import GrpcServer, ServerSettings, serve_until_stopped
from mesh.settings import SettingsError, read_settings
from mesh.telemetry import start_telemetry

NAME = "gateway"
SERVICES = [service.full_name for service in OWN_SERVICES]
_UPSTREAM_SECONDS = 10.0


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
    outside = Outside(
        settings,
        directory,
        store,
        KafkaBus(kafka),
        KafkaTail(kafka),
        KafkaEnds(kafka),
        telemetry,
        spool=spool,
        patience_seconds=spool_settings.patience_seconds,
        schemas=Schemas(ids, registry.url),
    )
    gateway = Gateway(outside)
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


def main() -> None:
    """Run the process."""
    run_process(serve)
