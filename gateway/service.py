"""The gRPC door for events: the same pipeline behind the same checks as the HTTP edge."""

from collections.abc import Iterable
from typing import cast

import grpc
from google.protobuf.message import Message
from opentelemetry import trace

from clew.collector.v1.collector_service_pb2 import CollectEventsRequest, CollectEventsResponse, EventVerdict
from clew.collector.v1.collector_service_pb2_grpc import CollectorServiceServicer
from gateway.batch import Outcome
from gateway.collect import Arrival, Collector
from gateway.credentials import AUTHORIZATION, WRITE_KEY, Credentials, read_credentials
from gateway.decode import decode_typed
from gateway.http.message import Request
from gateway.routes.collect import client_ip_of, credentials_of
from gateway.transcode.calls import Unary
from mesh.clock import Clock
from mesh.validation import validate

Context = grpc.aio.ServicerContext[CollectEventsRequest, CollectEventsResponse]


class CollectorServicer(CollectorServiceServicer):
    """Takes typed events; credentials are metadata."""

    def __init__(self, collector: Collector, clock: Clock) -> None:
        self._collector = collector
        self._clock = clock

    async def CollectEvents(  # noqa: N802, D102 - named and described in the contract
        self, request: CollectEventsRequest, context: Context
    ) -> CollectEventsResponse:
        received_ns = self._clock.now_ns()
        arrival = Arrival(
            lambda: decode_typed(request.events, received_ns),
            _credentials(context),
            span=trace.get_current_span(),
            received_ns=received_ns,
            client_ip=_peer_ip(context.peer()),
            size=request.ByteSize(),
        )
        outcomes = await self._collector.collect(arrival)
        return CollectEventsResponse(verdicts=_verdicts(outcomes))


def collect_over_http(collector: Collector, *, trust_forwarded: bool) -> Unary:
    """CollectEvents for the transcoder: without the gRPC server its validation is done here, and once."""

    async def call(message: Message, request: Request) -> Message:
        validate(message)
        events = cast("CollectEventsRequest", message).events
        arrival = Arrival(
            lambda: decode_typed(events, request.received_ns),
            credentials_of(request.headers),
            span=trace.get_current_span(),
            received_ns=request.received_ns,
            client_ip=client_ip_of(request, trust_forwarded=trust_forwarded),
            size=len(request.body),
        )
        outcomes = await collector.collect(arrival)
        return CollectEventsResponse(verdicts=_verdicts(outcomes))

    return call


def _credentials(context: Context) -> Credentials:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    return read_credentials(metadata.get(AUTHORIZATION), metadata.get(WRITE_KEY))


def _peer_ip(peer: str) -> str:
    """The address in gRPC's `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`; empty for other transports."""
    scheme, _, rest = peer.partition(":")
    if scheme not in {"ipv4", "ipv6"}:
        return ""
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def _verdicts(outcomes: Iterable[Outcome]) -> list[EventVerdict]:
    return [
        EventVerdict(
            message_id=outcome.message_id,
            verdict=outcome.verdict,
            failure_reason=outcome.failure_reason,
            filter_reason=outcome.filter_reason,
            detail=outcome.detail,
        )
        for outcome in outcomes
    ]
