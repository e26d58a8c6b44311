"""The consent process: the one place where its objects are made."""

import os
from pathlib import Path

from clew.consent.v1 import consent_service_pb2
from clew.consent.v1.consent_service_pb2_grpc import add_ConsentServiceServicer_to_server
from consent_svc.consents import Consents
from consent_svc.service import ConsentServicer
from consent_svc.settings import ConsentSettings
from consent_svc.store import SqliteConsentStore
from mesh.clock import SystemClock
from mesh.errors import StorageUnavailable
from mesh.logs import configure_logs
from mesh.process import run_process
from mesh.server import GrpcServer, ServerSettings, serve_until_stopped
from mesh.settings import SettingsError, read_settings
from mesh.sqlite import MigrationError
from mesh.telemetry import start_telemetry

NAME = "consent"
SERVICE = consent_service_pb2.DESCRIPTOR.services_by_name["ConsentService"].full_name


async def serve() -> None:
    """Read the settings, open the ledger, serve until told to stop, drain, close."""
    server_settings, settings = read_settings(ServerSettings), read_settings(ConsentSettings)
    configure_logs(NAME, server_settings.log_level)
    store = _open_store(server_settings.data_dir)
    telemetry = start_telemetry(NAME, server_settings.data_dir, os.environ)
    try:
        consents = await Consents.start(store, SystemClock(), settings.policy(), settings.cache_subjects)
        server = GrpcServer(NAME, server_settings, telemetry)
        add_ConsentServiceServicer_to_server(ConsentServicer(consents), server.server)
        await serve_until_stopped(server, [SERVICE])
        await consents.close()
    finally:
        await store.close()
        telemetry.shutdown()


def main() -> None:
    """Run the process."""
    run_process(serve)


def _open_store(data_dir: Path | None) -> SqliteConsentStore:
    # Nothing that a restart alone would mend: say what is wrong with the folder that was set.
    try:
        return SqliteConsentStore.open(data_dir / "consent.db" if data_dir else None)
    except StorageUnavailable as error:
        advice = "Stop the other process or set another directory."
        raise SettingsError([f"CLEW_DATA_DIR: {error.detail}. {advice}"]) from error
    except MigrationError as error:
        raise SettingsError([f"CLEW_DATA_DIR: {data_dir}: {error}"]) from error
