"""What the tests of the consent service share."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceStub, add_ConsentServiceServicer_to_server
from consent_svc.categories import DEFAULT_CATEGORIES, parse_categories
from consent_svc.consents import Consents, Policy
from consent_svc.purpose import mask_of_names
from consent_svc.service import ConsentServicer
from consent_svc.store import SqliteConsentStore
from mesh.clock import FixedClock
from mesh.interceptors.server import ServerInterceptor
from mesh.telemetry import start_telemetry
from tests.consent_svc.watched import WatchedStore
from tests.support.grpc_fixtures import BackgroundLoop, grpc_addr, grpc_loop, grpc_server  # noqa: F401 - fixtures

POLICY = Policy(essential=mask_of_names(["essential"]), categories=parse_categories(DEFAULT_CATEGORIES))


@pytest.fixture
def clock() -> FixedClock:
    """A clock that moves when told to."""
    return FixedClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    """The real ledger in a file, behind a recorder of the calls that reach it."""
    opened = SqliteConsentStore.open(tmp_path / "consent.db")
    yield WatchedStore(opened)
    await opened.close()


@pytest.fixture
async def consents(store: WatchedStore, clock: FixedClock) -> Consents:
    """Consent over an empty ledger."""
    return await Consents.start(store, clock, POLICY, cache_size=1_000)


@pytest.fixture(scope="module")
def grpc_clock() -> FixedClock:
    """The clock of the served consents."""
    return FixedClock()


@pytest.fixture(scope="module")
def grpc_servicer(
    grpc_loop: BackgroundLoop,  # noqa: F811 - pytest finds fixtures by name
    grpc_clock: FixedClock,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ConsentServicer]:
    """The servicer that pytest-grpc serves, over a ledger of its own."""
    opened = SqliteConsentStore.open(tmp_path_factory.mktemp("ledger") / "consent.db")
    yield ConsentServicer(grpc_loop.run(Consents.start(opened, grpc_clock, POLICY, cache_size=1_000)))
    grpc_loop.run(opened.close())


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[ServerInterceptor]:
    """What stands around every rpc of a running process: validation and error mapping among it."""
    return [ServerInterceptor(start_telemetry("consent", None, {"OTEL_SDK_DISABLED": "true"}))]


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return add_ConsentServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[ConsentServiceStub]:
    """The stub that pytest-grpc calls it with."""
    return ConsentServiceStub
