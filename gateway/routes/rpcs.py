"""The gateway's own rpcs, and all typed rpcs over HTTP/JSON: what is served, by what, and where it runs."""

from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from opentelemetry.trace import Tracer

from clew.admin.v1 import edge_debug_service_pb2, failed_event_service_pb2, source_service_pb2
from clew.admin.v1.edge_debug_service_pb2_grpc import add_EdgeDebugServiceServicer_to_server
from clew.admin.v1.failed_event_service_pb2_grpc import add_FailedEventServiceServicer_to_server
from clew.admin.v1.source_service_pb2_grpc import add_SourceServiceServicer_to_server
from clew.collector.v1 import collector_service_pb2
from clew.collector.v1.collector_service_pb2_grpc import add_CollectorServiceServicer_to_server
from clew.consent.v1 import consent_service_pb2
from clew.enrich.v1 import enrich_service_pb2
from clew.identity.v1 import identity_service_pb2
from clew.ledger.v1 import ledger_service_pb2
from clew.ledger.v1.ledger_service_pb2_grpc import add_LedgerServiceServicer_to_server
from gateway.admin.debug_service import EdgeDebugServicer
from gateway.admin.failed_event_service import FailedEventServicer
from gateway.admin.service import SourceServicer
from gateway.admission import Admission
from gateway.collect import Collector
from gateway.ledger.service import LedgerServicer
from gateway.service import CollectorServicer, collect_over_http
from gateway.settings import GatewaySettings
from gateway.transcode.access import Guard
from gateway.transcode.calls import Calls, in_process, over_channel, servicer_stream, servicer_unary
from gateway.transcode.transcoder import Transcoder
from gateway.upstreams import Upstreams
from mesh.clock import Clock

_FILES = (identity_service_pb2, consent_service_pb2, enrich_service_pb2)
UPSTREAM_SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
)
"""The services behind the gateway, each over its channel."""
_COLLECTOR: Final = collector_service_pb2.DESCRIPTOR.services_by_name["CollectorService"]
_SOURCES: Final = source_service_pb2.DESCRIPTOR.services_by_name["SourceService"]
_DEBUG: Final = edge_debug_service_pb2.DESCRIPTOR.services_by_name["EdgeDebugService"]
_FAILED: Final = failed_event_service_pb2.DESCRIPTOR.services_by_name["FailedEventService"]
_LEDGER: Final = ledger_service_pb2.DESCRIPTOR.services_by_name["LedgerService"]
OWN_SERVICES: Final[tuple[ServiceDescriptor, ...]] = (_COLLECTOR, _SOURCES, _DEBUG, _FAILED, _LEDGER)
"""The gateway's own services."""


@dataclass(frozen=True, slots=True)
class OwnRpcs:
    """What serves the gateway's own services, by gRPC and over HTTP: the same objects, no rpc in between."""

    collector: Collector
    sources: SourceServicer
    debug: EdgeDebugServicer
    failed: FailedEventServicer
    ledger: LedgerServicer

    def register(self, server: grpc.aio.Server, clock: Clock) -> None:
        """Offer them by gRPC."""
        add_CollectorServiceServicer_to_server(CollectorServicer(self.collector, clock), server)
        add_SourceServiceServicer_to_server(self.sources, server)
        add_EdgeDebugServiceServicer_to_server(self.debug, server)
        add_FailedEventServiceServicer_to_server(self.failed, server)
        add_LedgerServiceServicer_to_server(self.ledger, server)

    def over_http(self, *, trust_forwarded: bool) -> dict[ServiceDescriptor, Calls]:
        """How the transcoder calls each service; every rpc stands here by its name."""
        sources = self.sources
        collect = collect_over_http(self.collector, trust_forwarded=trust_forwarded)
        return {
            _COLLECTOR: in_process({"CollectEvents": collect}),
            _SOURCES: in_process(
                {
                    "CreateSource": servicer_unary(sources.CreateSource),
                    "GetSource": servicer_unary(sources.GetSource),
                    "ListSources": servicer_unary(sources.ListSources),
                    "UpdateSource": servicer_unary(sources.UpdateSource),
                    "DeleteSource": servicer_unary(sources.DeleteSource),
                    "ListWorkspaces": servicer_unary(sources.ListWorkspaces),
                    "CreateWriteKey": servicer_unary(sources.CreateWriteKey),
                    "RotateWriteKey": servicer_unary(sources.RotateWriteKey),
                    "RevokeWriteKey": servicer_unary(sources.RevokeWriteKey),
                    "ListSourceChanges": servicer_unary(sources.ListSourceChanges),
                }
            ),
            _DEBUG: in_process({}, {"TailEvents": servicer_stream(self.debug.TailEvents)}),
            _FAILED: in_process({"RedriveEvents": servicer_unary(self.failed.RedriveEvents)}),
            _LEDGER: in_process({"GetLedger": servicer_unary(self.ledger.GetLedger)}),
        }


def rpc_transcoder(
    admission: Admission, upstreams: Upstreams, own: OwnRpcs, tracer: Tracer, settings: GatewaySettings
) -> Transcoder:
    """The transcoder over all services; the contract's faults are found here, at start."""
    transcoder = Transcoder(Guard(admission), tracer, request_seconds=settings.request_seconds)
    channels = upstreams.by_service()
    for service in UPSTREAM_SERVICES:
        name, channel = channels[service.full_name]
        transcoder.add(service, over_channel(channel, name))
    for service, calls in own.over_http(trust_forwarded=settings.trust_forwarded).items():
        transcoder.add(service, calls)
    return transcoder
