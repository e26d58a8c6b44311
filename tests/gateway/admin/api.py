"""The rpcs of `SourceService` as an administrator calls them."""

from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call

from clew.admin.v1 import source_pb2 as nouns
from clew.admin.v1 import source_service_pb2 as messages
from gateway.sources import Source
from mesh.jwt import Signer

ISSUER, OUTSIDE = "https://clew.test", "https://login.example"
SIGNER = Signer(generate_private_key(SECP256R1()), ISSUER)
OUTSIDER = Signer(generate_private_key(SECP256R1()), OUTSIDE)
FILED = Source("shop", "filed", frozenset({1}))
Metadata = tuple[tuple[str, str], ...]


def bearer(*scopes: str, signer: Signer = SIGNER) -> Metadata:
    """Credentials with these scopes, which outlive the suite."""
    token = signer.sign("ops", "clew", lifetime_seconds=3_600, scopes=scopes, client_id="ops").token
    return (("authorization", f"Bearer {token}"),)


ADMIN = bearer("clew.admin")


class Api:
    """The rpcs, called as an administrator."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __call__(self, rpc: str, metadata: Metadata = ADMIN, **fields: Any) -> Any:
        """Call an rpc with the fields of its request."""
        request = getattr(messages, f"{rpc}Request")(**fields)
        return getattr(self._stub, rpc)(request, metadata=metadata, timeout=10)

    def refusal(self, rpc: str, metadata: Metadata = ADMIN, **fields: Any) -> tuple[str, str]:
        """Call an rpc that is refused; the status and the one reason, both short."""
        with pytest.raises(grpc.RpcError) as raised:
            self(rpc, metadata, **fields)
        assert isinstance(raised.value, grpc.Call)
        status = from_call(raised.value)
        assert status is not None
        (detail,) = status.details
        info = ErrorInfo()
        assert detail.Unpack(info)
        return raised.value.code().name, info.reason.removeprefix("ERROR_REASON_")

    def create(self, source: str, **fields: Any) -> nouns.Source:
        """Make a source in the workspace of these tests."""
        made: nouns.Source = self("CreateSource", source=nouns.Source(workspace="shop", name=source, **fields)).source
        return made

    def get(self, source: str) -> nouns.Source:
        """Read one."""
        found: nouns.Source = self("GetSource", workspace="shop", source=source).source
        return found
