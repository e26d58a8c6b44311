"""The services behind the gateway: one channel each, made in main, used through typed stubs."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from clew.consent.v1.consent_service_pb2 import (
    BatchCheckConsentsRequest,
    BatchCheckConsentsResponse,
    StreamCheckConsentsRequest,
    StreamCheckConsentsResponse,
)
from clew.enrich.v1.enrich_service_pb2 import (
    BatchEnrichEventsRequest,
    BatchEnrichEventsResponse,
    StreamEnrichEventsRequest,
    StreamEnrichEventsResponse,
)
from clew.identity.v1.identity_service_pb2 import (
    BatchResolveIdentitiesRequest,
    BatchResolveIdentitiesResponse,
    StreamResolveIdentitiesRequest,
    StreamResolveIdentitiesResponse,
)
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from mesh.channel import open_channel, wait_ready
from mesh.streams.client import StreamedCalls
from mesh.telemetry import Telemetry

if TYPE_CHECKING:
    from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Upstreams:
    """How the three services are called, and the channels that carry the calls."""

    identity: "IdentityServiceAsyncStub"
    channels: tuple[grpc.aio.Channel, ...]
    resolve: "StreamedCalls[BatchResolveIdentitiesRequest, BatchResolveIdentitiesResponse]"
    """`BatchResolveIdentities`, over a stream; `check` and `enrich_events` likewise: what every event passes."""
    check: "StreamedCalls[BatchCheckConsentsRequest, BatchCheckConsentsResponse]"
    enrich_events: "StreamedCalls[BatchEnrichEventsRequest, BatchEnrichEventsResponse]"

    @classmethod
    def open(cls, *, identity: str, consent: str, enrich: str, telemetry: Telemetry) -> "Upstreams":
        """Open a channel to each `HOST:PORT`; connecting goes on in the background."""
        to_identity = open_channel(identity, service="identity", telemetry=telemetry)
        to_consent = open_channel(consent, service="consent", telemetry=telemetry)
        to_enrich = open_channel(enrich, service="enrich", telemetry=telemetry)
        return cls(
            IdentityServiceStub(to_identity),
            (to_identity, to_consent, to_enrich),
            to_identity.calls(
                "clew.identity.v1.IdentityService/StreamResolveIdentities",
                "BatchResolveIdentities",
                StreamResolveIdentitiesRequest,
                StreamResolveIdentitiesResponse,
            ),
            to_consent.calls(
                "clew.consent.v1.ConsentService/StreamCheckConsents",
                "BatchCheckConsents",
                StreamCheckConsentsRequest,
                StreamCheckConsentsResponse,
            ),
            to_enrich.calls(
                "clew.enrich.v1.EnrichService/StreamEnrichEvents",
                "BatchEnrichEvents",
                StreamEnrichEventsRequest,
                StreamEnrichEventsResponse,
            ),
        )

    def by_service(self) -> dict[str, tuple[str, grpc.aio.Channel]]:
        """Short name and channel of each service, by its full name in the contract."""
        names = ("identity", "consent", "enrich")
        return {
            f"clew.{name}.v1.{name.capitalize()}Service": (name, channel)
            for name, channel in zip(names, self.channels, strict=True)
        }

    def not_ready(self) -> list[str]:
        """The services that cannot be called right now, by name."""
        names = ("identity", "consent", "enrich")
        ready = grpc.ChannelConnectivity.READY
        return [
            name
            for name, channel in zip(names, self.channels, strict=True)
            if channel.get_state(try_to_connect=True) != ready
        ]

    async def wait_ready(self, seconds: float) -> None:
        """Wait until all three are connected and serving.

        Raises:
            UpstreamUnavailable: One is not within that time.
        """
        await asyncio.gather(*(wait_ready(channel, seconds) for channel in self.channels))

    async def close(self) -> None:
        """Close the channels; calls under way are cancelled."""
        await asyncio.gather(*(channel.close() for channel in self.channels))
