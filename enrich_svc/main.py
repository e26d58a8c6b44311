"""The enrich process: settings, rules, server, run, drain."""

import os

from iptocc import country_code

from clew.enrich.v1 import enrich_service_pb2, enrich_service_pb2_grpc
from enrich_svc.client import ClientReader
from enrich_svc.enrichment import Enricher
from enrich_svc.geo import Geographer
from enrich_svc.service import EnrichServicer
from enrich_svc.settings import EnrichSettings
from mesh.logs import configure_logs
from mesh.process import run_process
from mesh.server import GrpcServer, serve_until_stopped
from mesh.settings import read_settings
from mesh.telemetry import start_telemetry

NAME = "enrich"
SERVICE = enrich_service_pb2.DESCRIPTOR.services_by_name["EnrichService"].full_name


async def serve() -> None:
    """Build everything, serve until a signal, and drain."""
    settings = read_settings(EnrichSettings)
    configure_logs(NAME, settings.server.log_level)
    telemetry = start_telemetry(NAME, settings.server.data_dir, os.environ)
    server = GrpcServer(NAME, settings.server, telemetry)
    enricher = Enricher(ClientReader().read, Geographer(country_code).locate, settings.cache_entries)
    enrich_service_pb2_grpc.add_EnrichServiceServicer_to_server(EnrichServicer(enricher), server.server)
    try:
        await serve_until_stopped(server, [SERVICE])
    finally:
        telemetry.shutdown()


def main() -> None:
    """Run the process."""
    run_process(serve)
