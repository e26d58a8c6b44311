"""Calls to the gateway's administration, with the admin token of a running mesh."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

from clew.admin.v1.edge_debug_service_pb2_grpc import EdgeDebugServiceStub
from clew.admin.v1.failed_event_service_pb2_grpc import FailedEventServiceStub
from clew.admin.v1.source_pb2 import Source
from clew.admin.v1.source_service_pb2 import ListSourcesRequest
from clew.admin.v1.source_service_pb2_grpc import SourceServiceStub
from clew.errors.v1.errors_pb2 import ErrorReason
from cli.endpoints import Endpoints, NotRunning
from mesh.status import error_from_rpc

_SECONDS = 15
_PAGE = 1_000
# Any length: gRPC's own bound is less than a long ledger, or a thousand sources with all their keys, may take.
_OPTIONS = (("grpc.max_receive_message_length", -1),)
# It reads topics, and publishes up to 500 events.
_REDRIVE_SECONDS = 90


class Refused(Exception):
    """Raised when the gateway refuses a call; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A connection to the gateway of a running mesh."""

    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]

    def call(self, rpc: str, request: Any) -> Any:
        """Call an rpc of `SourceService`.

        Raises:
            Refused: The gateway does not do it.
            NotRunning: It cannot be reached.
        """
        method = getattr(SourceServiceStub(self.channel), rpc)
        return translated(lambda: method(request, metadata=self.metadata, timeout=_SECONDS))

    def redrive(self, request: Any) -> Any:
        """Call `RedriveEvents`; raises as `call` does."""
        method = FailedEventServiceStub(self.channel).RedriveEvents
        return translated(lambda: method(request, metadata=self.metadata, timeout=_REDRIVE_SECONDS))

    def tail(self, request: Any) -> Any:
        """Begin to watch events; the call is a stream that can be cancelled."""
        return EdgeDebugServiceStub(self.channel).TailEvents(request, metadata=self.metadata)


@contextmanager
def connected(data_dir: Path, address: str = "", token: str = "") -> Iterator[Gateway]:
    """Connect to the gateway that serves from a data directory, or to another one, with another token.

    Raises:
        NotRunning: None does; the message says what to do.
    """
    if not (address and token):
        endpoints = Endpoints.read(data_dir)
        address, token = address or endpoints.grpc["gateway"], token or endpoints.admin_token
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        yield Gateway(channel, (("authorization", f"Bearer {token}"),))


def every_source(gateway: Gateway, workspace: str = "") -> Iterator[Source]:
    """The sources of a workspace, or of all; raises as `Gateway.call` does."""
    token = ""
    while True:
        request = ListSourcesRequest(workspace=workspace, page_size=_PAGE, page_token=token)
        page = gateway.call("ListSources", request)
        yield from page.sources
        token = page.next_page_token
        if not token:
            return


def translated(work: Callable[[], Any]) -> Any:
    """Do something that calls the gateway; what gRPC raises becomes one of our own, in words for people.

    Raises:
        Refused: The gateway does not do it.
        NotRunning: It cannot be reached.
    """
    try:
        return work()
    except grpc.RpcError as failure:
        # A failed call has the same methods in both of gRPC's worlds.
        error = error_from_rpc(cast("grpc.aio.AioRpcError", failure), "gateway")
        if error.reason == ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE:
            raise NotRunning("the gateway does not answer; is `clew up` still running?") from failure
        reason = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
        field = f" {error.metadata['field']}" if error.metadata.get("field") else ""
        raise Refused(f"{reason}:{field} {error.detail or 'no more is known'}") from failure
