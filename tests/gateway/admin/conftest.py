"""`SourceService` as it is served: the real servicer over a real server."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clew.admin.v1.source_service_pb2_grpc import SourceServiceStub, add_SourceServiceServicer_to_server
from gateway.admin.directory import Directory
from gateway.admin.service import SourceServicer
from gateway.admin.store import SqliteSourceStore
from gateway.admission import Admission
from gateway.sources import Sources, hash_key
from mesh.clock import FixedClock
from mesh.ids import new_id
from mesh.interceptors.server import ServerInterceptor
from mesh.jwt import IssuerVerifiers, JwksSource, Verifier
from mesh.telemetry import start_telemetry
from tests.gateway.admin.api import FILED, ISSUER, OUTSIDE, OUTSIDER, SIGNER, Api
from tests.gateway.admin.stores import NOW
from tests.support.grpc_fixtures import BackgroundLoop, grpc_addr, grpc_loop, grpc_server  # noqa: F401


@pytest.fixture(scope="module")
def sources() -> Sources:
    """What requests look into."""
    return Sources({hash_key("filed"): FILED}, FixedClock(NOW))


@pytest.fixture(scope="module")
def directory(grpc_loop: BackgroundLoop, sources: Sources) -> Iterator[Directory]:  # noqa: F811 - found by name
    """The directory, on the loop that the servicer runs on."""

    async def start() -> Directory:
        started = Directory(sources, SqliteSourceStore.open(None), FixedClock(NOW))
        await started.start()
        return started

    started = grpc_loop.run(start())
    yield started
    grpc_loop.run(started.close())


@pytest.fixture(scope="module")
def grpc_servicer(directory: Directory, sources: Sources) -> SourceServicer:
    """The servicer that pytest-grpc serves."""
    signers = {ISSUER: SIGNER, OUTSIDE: OUTSIDER}
    tokens = IssuerVerifiers(
        [Verifier(issuer, "clew", JwksSource.fixed(signer.jwks())) for issuer, signer in signers.items()]
    )
    return SourceServicer(directory, Admission(sources, tokens, {ISSUER}), FixedClock(NOW))


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[ServerInterceptor]:
    """What stands around every rpc of a running process."""
    return [ServerInterceptor(start_telemetry("gateway", None, {"OTEL_SDK_DISABLED": "true"}))]


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return add_SourceServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    """The stub that pytest-grpc calls it with."""
    return SourceServiceStub


@pytest.fixture
def name() -> str:
    """A source's name that no other test uses."""
    return new_id()


@pytest.fixture
def api(grpc_stub: Any) -> Api:
    """The rpcs."""
    return Api(grpc_stub)
