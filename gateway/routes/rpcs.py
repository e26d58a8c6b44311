"""The typed rpcs over HTTP/JSON: which services the gateway serves so, and where each of them runs."""

from typing import Final

from google.protobuf.descriptor import ServiceDescriptor
from opentelemetry.trace import Tracer

from clew.collector.v1 import collector_service_pb2
from clew.consent.v1 import consent_service_pb2
from clew.enrich.v1 import enrich_service_pb2
from clew.identity.v1 import identity_service_pb2
from gateway.admission import Admission
from gateway.collect import Collector
from gateway.service import collect_over_http
from gateway.settings import GatewaySettings
from gateway.transcode.access import Guard
from gateway.transcode.calls import in_process, over_channel
from gateway.transcode.transcoder import Transcoder
from gateway.upstreams import Upstreams

_FILES = (identity_service_pb2, consent_service_pb2, enrich_service_pb2)
UPSTREAM_SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
)
"""The services behind the gateway, each over its channel."""
OWN_SERVICE: Final[ServiceDescriptor] = collector_service_pb2.DESCRIPTOR.services_by_name["CollectorService"]
"""The gateway's own service."""


def rpc_transcoder(
    admission: Admission, upstreams: Upstreams, collector: Collector, tracer: Tracer, settings: GatewaySettings
) -> Transcoder:
    """The transcoder over all services; the contract's faults are found here, at start."""
    transcoder = Transcoder(Guard(admission), tracer, request_seconds=settings.request_seconds)
    channels = upstreams.by_service()
    for service in UPSTREAM_SERVICES:
        name, channel = channels[service.full_name]
        transcoder.add(service, over_channel(channel, name))
    collect = collect_over_http(collector, trust_forwarded=settings.trust_forwarded)
    transcoder.add(OWN_SERVICE, in_process({"CollectEvents": collect}))
    return transcoder
