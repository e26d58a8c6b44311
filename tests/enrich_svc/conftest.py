"""The real enricher, behind functions and behind a server."""

from collections.abc import Callable
from typing import Any

import pytest
from iptocc import country_code

from clew.enrich.v1 import enrich_service_pb2_grpc
from enrich_svc.client import ClientReader
from enrich_svc.enrichment import Enricher
from enrich_svc.geo import Geographer
from enrich_svc.service import EnrichServicer
from tests.support.grpc_fixtures import grpc_addr, grpc_loop, grpc_server  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def reader() -> ClientReader:
    """The compiled user agent rules."""
    return ClientReader()


@pytest.fixture(scope="session")
def geographer() -> Geographer:
    """The rules for addresses over the database that the service runs with."""
    return Geographer(country_code)


@pytest.fixture(scope="module")
def enricher(reader: ClientReader, geographer: Geographer) -> Enricher:
    """An enricher that remembers few inputs, so that tests see results both new and remembered."""
    return Enricher(reader.read, geographer.locate, cache_entries=4)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return enrich_service_pb2_grpc.add_EnrichServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_servicer(enricher: Enricher) -> EnrichServicer:
    """The servicer that pytest-grpc serves."""
    return EnrichServicer(enricher)


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    """The stub that pytest-grpc calls it with."""
    return enrich_service_pb2_grpc.EnrichServiceStub
