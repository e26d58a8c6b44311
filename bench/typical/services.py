"""The three services: `python -m bench.typical.services identity|consent|enrich DIRECTORY`. Each prints its port."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop
from iptocc import country_code
from uuid_utils import uuid7

from bench.typical.telemetry import server_interceptors, start_tracing
from clew.consent.v1 import consent_pb2, consent_service_pb2, consent_service_pb2_grpc
from clew.enrich.v1 import enrich_service_pb2_grpc
from clew.identity.v1 import identifier_pb2, identity_service_pb2, identity_service_pb2_grpc
from clew.options.v1.privacy_pb2 import PURPOSE_ESSENTIAL
from enrich_svc.client import ClientReader
from enrich_svc.enrichment import Enricher
from enrich_svc.geo import Geographer
from enrich_svc.service import EnrichServicer

IDENTIFIERS = """
CREATE TABLE IF NOT EXISTS identifiers (
  workspace TEXT, kind TEXT, value TEXT, profile_id TEXT, PRIMARY KEY (workspace, kind, value)
) WITHOUT ROWID
"""
CHOICES = """
CREATE TABLE IF NOT EXISTS choices (
  workspace TEXT, subject TEXT, purpose INTEGER, granted INTEGER, PRIMARY KEY (workspace, subject, purpose)
) WITHOUT ROWID
"""


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """Open a database with the settings that SQLite's documentation advises for servers."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute(schema)
    return database


class TypicalIdentity(identity_service_pb2_grpc.IdentityServiceServicer):
    """Finds the profile of an event's identifiers and writes what is new, on the loop: SQLite is local and quick."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    async def BatchResolveIdentities(  # noqa: N802
        self, request: identity_service_pb2.BatchResolveIdentitiesRequest, _context: Any
    ) -> identity_service_pb2.BatchResolveIdentitiesResponse:
        """Resolve each item."""
        results = [self._resolve(request.workspace, item) for item in request.items]
        return identity_service_pb2.BatchResolveIdentitiesResponse(results=results)

    def _resolve(
        self, workspace: str, item: identity_service_pb2.IdentityQuery
    ) -> identity_service_pb2.ResolvedIdentity:
        named = [("user", item.user_id), ("anonymous", item.anonymous_id)]
        found = {(kind, value): self._find(workspace, kind, value) for kind, value in named if value}
        profile_id = next((known for known in found.values() if known), None) or str(uuid7())
        rows = [(workspace, kind, value, profile_id) for (kind, value), known in found.items() if not known]
        if rows:
            self._database.executemany("INSERT OR IGNORE INTO identifiers VALUES (?, ?, ?, ?)", rows)
        assurance = identifier_pb2.ASSURANCE_ASSERTED if item.user_id else identifier_pb2.ASSURANCE_ANONYMOUS
        return identity_service_pb2.ResolvedIdentity(profile_id=profile_id, assurance=assurance)

    def _find(self, workspace: str, kind: str, value: str) -> str | None:
        query = "SELECT profile_id FROM identifiers WHERE workspace = ? AND kind = ? AND value = ?"
        row = self._database.execute(query, (workspace, kind, value)).fetchone()
        return row[0] if row else None


class TypicalConsent(consent_service_pb2_grpc.ConsentServiceServicer):
    """Decides by what is on record; nothing on record allows the essential purpose."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    async def BatchCheckConsents(  # noqa: N802
        self, request: consent_service_pb2.BatchCheckConsentsRequest, _context: Any
    ) -> consent_service_pb2.BatchCheckConsentsResponse:
        """Decide each item."""
        decisions = [self._decide(request.workspace, item.subject) for item in request.items]
        return consent_service_pb2.BatchCheckConsentsResponse(decisions=decisions)

    def _decide(self, workspace: str, subject: str) -> consent_pb2.ConsentDecision:
        query = "SELECT purpose, granted FROM choices WHERE workspace = ? AND subject = ? ORDER BY purpose"
        rows = dict(self._database.execute(query, (workspace, subject)).fetchall())
        granted = [purpose for purpose, allowed in ({PURPOSE_ESSENTIAL: 1} | rows).items() if allowed]
        basis = consent_pb2.CONSENT_BASIS_RECORDED if rows else consent_pb2.CONSENT_BASIS_DEFAULT
        return consent_pb2.ConsentDecision(granted_purposes=granted, basis=basis)


def add_identity(server: grpc.aio.Server, folder: Path) -> None:
    """Register the identity service."""
    database = open_database(folder / "identity.db", IDENTIFIERS)
    servicer = TypicalIdentity(database)  # type: ignore[abstract] # the data path only; the rest is unimplemented
    identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(servicer, server)


def add_consent(server: grpc.aio.Server, folder: Path) -> None:
    """Register the consent service."""
    database = open_database(folder / "consent.db", CHOICES)
    servicer = TypicalConsent(database)  # type: ignore[abstract] # the data path only; the rest is unimplemented
    consent_service_pb2_grpc.add_ConsentServiceServicer_to_server(servicer, server)


def add_enrich(server: grpc.aio.Server, _folder: Path) -> None:
    """Register the enrich service, with clew's own rules and memory."""
    enricher = Enricher(ClientReader().read, Geographer(country_code).locate, cache_entries=8192)
    enrich_service_pb2_grpc.add_EnrichServiceServicer_to_server(EnrichServicer(enricher), server)


SERVICES: dict[str, Callable[[grpc.aio.Server, Path], None]] = {
    "identity": add_identity,
    "consent": add_consent,
    "enrich": add_enrich,
}


async def serve(name: str, folder: Path) -> None:
    """Serve one of them until SIGTERM."""
    start_tracing(f"typical-{name}")
    server = grpc.aio.server(interceptors=server_interceptors(), options=[("grpc.so_reuseport", 0)])
    SERVICES[name](server, folder)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop(1)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
