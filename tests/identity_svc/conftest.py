"""Fixtures of the identity tests."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

# The contract suite's asserts stand in no test module: ask for their values to be shown all the same.
pytest.register_assert_rewrite("tests.contract.identity_store", "tests.contract.identity_machine")

from clew.identity.v1.identity_service_pb2_grpc import (  # noqa: E402
    IdentityServiceStub,
    add_IdentityServiceServicer_to_server,
)
from identity_svc.clients import Client, ClientRegistry  # noqa: E402
from identity_svc.service import IdentityServicer  # noqa: E402
from identity_svc.store import SqliteIdentityStore  # noqa: E402
from identity_svc.tokens import TokenIssuer  # noqa: E402
from mesh.clock import FixedClock  # noqa: E402
from mesh.interceptors.server import ServerInterceptor  # noqa: E402
from mesh.jwt import Signer  # noqa: E402
from mesh.telemetry import start_telemetry  # noqa: E402
from tests.support.grpc_fixtures import BackgroundLoop, grpc_addr, grpc_loop, grpc_server  # noqa: E402, F401

ISSUER = "https://clew.test"


def registered(client_id: str, secret: str, *scopes: str) -> Client:
    """A client as it stands in the file."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return Client(client_id=client_id, secret_sha256=digest, scopes=list(scopes))


@pytest.fixture(scope="module")
def clock() -> FixedClock:
    """A clock that moves when told to."""
    return FixedClock()


@pytest.fixture(scope="module")
def signer(clock: FixedClock) -> Signer:
    """Signs with a key of the test's own."""
    return Signer(generate_private_key(SECP256R1()), ISSUER, clock=clock)


@pytest.fixture(scope="module")
def tokens(signer: Signer) -> TokenIssuer:
    """Issues tokens to a shop, which may name users, and to a reader, which may not."""
    shop = registered("shop", "shop-secret", "clew.impersonate", "clew.admin", "profiles.read")
    reader = registered("reader", "reader-secret", "profiles.read")
    return TokenIssuer(ClientRegistry([shop, reader]), signer)


@pytest.fixture(scope="module")
def grpc_servicer(
    grpc_loop: BackgroundLoop,  # noqa: F811 - pytest finds fixtures by name
    tokens: TokenIssuer,
    signer: Signer,
    clock: FixedClock,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[IdentityServicer]:
    """The servicer that pytest-grpc serves, over a graph of its own."""
    store = SqliteIdentityStore.open(tmp_path_factory.mktemp("graph") / "identity.db", clock=clock)
    yield IdentityServicer(store, tokens, signer, ISSUER)
    grpc_loop.run(store.close())


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[ServerInterceptor]:
    """What stands around every rpc of a running process: validation and error mapping among it."""
    return [ServerInterceptor(start_telemetry("identity", None, {"OTEL_SDK_DISABLED": "true"}))]


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return add_IdentityServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    """The stub that pytest-grpc calls it with."""
    return IdentityServiceStub
