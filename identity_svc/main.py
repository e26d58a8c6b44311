"""The identity process: the one place where its objects are made."""

import os
from pathlib import Path

from clew.identity.v1 import identity_service_pb2
from clew.identity.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server
from identity_svc.clients import ClientRegistry
from identity_svc.service import IdentityServicer
from identity_svc.settings import IdentitySettings
from identity_svc.signing_key import load_or_create_key
from identity_svc.store import SqliteIdentityStore
from identity_svc.tokens import TokenIssuer
from mesh.errors import StorageUnavailable
from mesh.jwt import Signer
from mesh.logs import configure_logs
from mesh.process import run_process
from mesh.server import GrpcServer, ServerSettings, serve_until_stopped
from mesh.settings import SettingsError, read_settings
from mesh.sqlite import MigrationError
from mesh.telemetry import start_telemetry

NAME = "identity"
SERVICE = identity_service_pb2.DESCRIPTOR.services_by_name["IdentityService"].full_name


async def serve() -> None:
    """Read the settings, open the store, serve until told to stop, drain; the store closes after the last call."""
    server_settings, settings = read_settings(ServerSettings), read_settings(IdentitySettings)
    configure_logs(NAME, server_settings.log_level)
    folder = server_settings.data_dir / NAME if server_settings.data_dir else None
    clients = ClientRegistry.load(settings.clients_file)
    store = _open_store(folder, settings.cache_size)
    telemetry = start_telemetry(NAME, server_settings.data_dir, os.environ)
    try:
        # After the store: its lock keeps a second process from making a second key.
        signer = Signer(load_or_create_key(folder / "signing_key.pem" if folder else None), settings.issuer)
        servicer = IdentityServicer(store, TokenIssuer(clients, signer), signer, settings.issuer)
        server = GrpcServer(NAME, server_settings, telemetry)
        add_IdentityServiceServicer_to_server(servicer, server.server)
        await serve_until_stopped(server, [SERVICE])
    finally:
        await store.close()
        telemetry.shutdown()


def _open_store(folder: Path | None, cache_size: int) -> SqliteIdentityStore:
    try:
        return SqliteIdentityStore.open(folder / "identity.db" if folder else None, cache_size=cache_size)
    except StorageUnavailable as error:
        advice = "Use another directory, or end what uses this one"
        raise SettingsError([f"CLEW_DATA_DIR: {error.detail}. {advice}"]) from error
    except MigrationError as error:
        raise SettingsError([f"CLEW_DATA_DIR: {folder}: {error}"]) from error


def main() -> None:
    """Run the process."""
    run_process(serve)
