"""A whole gateway in this process: real services behind it over gRPC, the HTTP edge in front, a bus in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from iptocc import country_code

from clew.consent.v1.consent_service_pb2_grpc import add_ConsentServiceServicer_to_server
from clew.enrich.v1.enrich_service_pb2_grpc import add_EnrichServiceServicer_to_server
from clew.identity.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server
from clew.options.v1.privacy_pb2 import Purpose
from consent_svc.categories import DEFAULT_CATEGORIES, parse_categories
from consent_svc.consents import Consents, Policy
from consent_svc.purpose import mask_of_names
from consent_svc.service import ConsentServicer
from consent_svc.store import SqliteConsentStore
from enrich_svc.client import ClientReader
from enrich_svc.enrichment import Enricher
from enrich_svc.geo import Geographer
from enrich_svc.service import EnrichServicer
from gateway.admin.directory import Directory
from gateway.admin.store import SqliteSourceStore
from gateway.assembly import Gateway, Outside
from gateway.claims.sqlite import SqliteClaims
from gateway.settings import GatewaySettings
from gateway.sources import Source, Sources, hash_key
from identity_svc.clients import Client, ClientRegistry
from identity_svc.service import IdentityServicer
from identity_svc.store import SqliteIdentityStore
from identity_svc.tokens import TokenIssuer
from mesh.bus.memory import MemoryBus
from mesh.bus.tail import MemoryTail
from mesh.clock import SystemClock
from mesh.jwt import Signer
from tests.mesh.rpc import Recorder, running_mesh

ISSUER = "https://clew.local"
WRITE_KEY = "wk_test"
CLIENT_ID = "tester"
CLIENT_SECRET = "a long secret of the tests"


@dataclass(slots=True)
class RunningGateway:
    """What reaches a running gateway, and what can be seen inside of it."""

    url: str
    gateway: Gateway
    bus: MemoryBus
    recorder: Recorder
    """The gateway's spans."""
    behind: Recorder
    """The spans of the services behind it."""
    signer: Signer
    servers: list[grpc.aio.Server]

    def token(self, *scopes: str, subject: str = "tester") -> str:
        """A client's own token with these scopes."""
        return self.signer.sign(subject, "clew", lifetime_seconds=3600, scopes=scopes, client_id=subject).token

    def bearer(self, *scopes: str) -> dict[str, str]:
        """The header that carries such a token."""
        return {"Authorization": f"Bearer {self.token(*scopes)}"}


@asynccontextmanager
async def running_gateway() -> AsyncIterator[RunningGateway]:
    """Start the three services and the gateway on free ports; stores are in memory."""
    clock = SystemClock()
    signer = Signer(generate_private_key(SECP256R1()), ISSUER)
    client = Client(
        client_id=CLIENT_ID, secret_sha256=hash_key(CLIENT_SECRET), scopes=["clew.impersonate", "clew.admin"]
    )
    identities = SqliteIdentityStore.open(None)
    ledger = SqliteConsentStore.open(None)
    policy = Policy(essential=mask_of_names(["essential"]), categories=parse_categories(DEFAULT_CATEGORIES))
    consents = await Consents.start(ledger, clock, policy, cache_size=1_000)
    who = IdentityServicer(identities, TokenIssuer(ClientRegistry([client]), signer), signer, ISSUER)
    enricher = Enricher(ClientReader().read, Geographer(country_code).locate, 1_000)
    recorder, behind, bus = Recorder(), Recorder(), MemoryBus()
    async with running_mesh() as mesh:
        started = [
            await mesh.serve(behind, register)
            for register in (
                lambda server: add_IdentityServiceServicer_to_server(who, server),
                lambda server: add_ConsentServiceServicer_to_server(ConsentServicer(consents), server),
                lambda server: add_EnrichServiceServicer_to_server(EnrichServicer(enricher), server),
            )
        ]
        who_at, may_at, more_at = (f"127.0.0.1:{port}" for _, port in started)
        settings = GatewaySettings(who_at, may_at, more_at, Path("no file"))
        source = Source("main", "default", frozenset(number for number in Purpose.values() if number))
        directory = Directory(Sources({hash_key(WRITE_KEY): source}), SqliteSourceStore.open(None), clock)
        await directory.start()
        store = await SqliteClaims.open(None)
        gateway = Gateway(
            Outside(settings, directory, store, bus, MemoryTail(bus), MemoryTail(bus), recorder.telemetry)
        )
        gateway.recovery.start()
        await gateway.recovery.wait_begun(5.0)
        await gateway.upstreams.wait_ready(10)
        http = gateway.http_server()
        port = await http.start("127.0.0.1", 0)
        servers = [server.server for server, _ in started]
        yield RunningGateway(f"http://127.0.0.1:{port}", gateway, bus, recorder, behind, signer, servers)
        await http.drain(1)
        await gateway.drain()
        await directory.close()
    await consents.close()
    await ledger.close()
    await identities.close()
