"""The edge: Starlette, one task and three calls per event, an answer once all of them are on Kafka."""

import asyncio
import base64
import binascii
import gzip
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import uvicorn
from confluent_kafka import KafkaException
from google.protobuf.json_format import ParseError
from opentelemetry import propagate, trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.typical import events, telemetry
from bench.typical.publisher import Publisher
from clew.consent.v1.consent_service_pb2 import BatchCheckConsentsRequest, ConsentQuery
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceStub
from clew.enrich.v1.enrich_service_pb2 import BatchEnrichEventsRequest
from clew.enrich.v1.enrich_service_pb2_grpc import EnrichServiceStub
from clew.identity.v1.identity_service_pb2 import BatchResolveIdentitiesRequest
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub

TIMEOUT_SECONDS = 10
WORKSPACE = "bench"
CALLS = ("track", "identify", "page", "screen", "group", "alias")

tracer = trace.get_tracer("typical.gateway")


class Pipeline:
    """Takes one event through identity, consent and enrichment onto Kafka."""

    def __init__(self, identity: grpc.aio.Channel, consent: grpc.aio.Channel, enrich: grpc.aio.Channel) -> None:
        self._identity: Any = IdentityServiceStub(identity)
        self._consent: Any = ConsentServiceStub(consent)
        self._enrich: Any = EnrichServiceStub(enrich)
        self._publisher = Publisher(os.environ["TYPICAL_KAFKA"], os.environ["TYPICAL_TOPIC"])

    async def process(self, event: dict[str, Any], sent_at: str | None, client_ip: str) -> str:
        """Process an event; returns its verdict."""
        with tracer.start_as_current_span("process event"):
            resolving = BatchResolveIdentitiesRequest(workspace=WORKSPACE, items=[events.identity_query(event)])
            resolved = await self._identity.BatchResolveIdentities(resolving, timeout=TIMEOUT_SECONDS)
            identity = resolved.results[0]
            checking = BatchCheckConsentsRequest(workspace=WORKSPACE, items=[ConsentQuery(subject=identity.profile_id)])
            checked = await self._consent.BatchCheckConsents(checking, timeout=TIMEOUT_SECONDS)
            decision = checked.decisions[0]
            if not decision.granted_purposes:
                return "filtered"
            enriching = BatchEnrichEventsRequest(items=[events.enrichment_query(event, client_ip)])
            enriched = await self._enrich.BatchEnrichEvents(enriching, timeout=TIMEOUT_SECONDS)
            message = events.build(event, sent_at, identity, decision, enriched.results[0])
            await self._publish(identity.profile_id, message.SerializeToString())
            return "accepted"

    async def _publish(self, profile_id: str, value: bytes) -> None:
        with tracer.start_as_current_span("publish", kind=trace.SpanKind.PRODUCER):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            await self._publisher.publish(profile_id.encode(), value, list(carrier.items()))

    def close(self) -> None:
        """Send what is queued."""
        self._publisher.close()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the channels and the producer for as long as the application runs."""
    targets = [os.environ[f"TYPICAL_{name}"] for name in ("IDENTITY", "CONSENT", "ENRICH")]
    interceptors = telemetry.client_interceptors()
    channels = [grpc.aio.insecure_channel(target, interceptors=interceptors) for target in targets]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    app.state.pipeline = Pipeline(*channels)
    yield
    app.state.pipeline.close()
    await asyncio.gather(*(channel.close() for channel in channels))


def authorized(request: Request) -> bool:
    """Check the write key of Basic authentication."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    try:
        key = base64.b64decode(credentials).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return False
    return scheme.lower() == "basic" and key == os.environ["TYPICAL_WRITE_KEY"]


def refuse(status: int, code: str, message: str) -> JSONResponse:
    """An error as the client libraries read it."""
    return JSONResponse({"code": code, "message": message}, status_code=status)


async def collect(request: Request) -> JSONResponse:
    """Take one event, or a batch."""
    if not authorized(request):
        return refuse(401, "UNKNOWN_WRITE_KEY", "the write key belongs to no source")
    try:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        envelope = json.loads(body)
        call = request.path_params["call"]
        batch = envelope["batch"] if call == "batch" else [{"type": call, **envelope}]
    except (ValueError, KeyError, TypeError, OSError):
        return refuse(400, "UNREADABLE_BODY", "the body is no envelope of events")
    pipeline: Pipeline = request.app.state.pipeline
    client_ip = request.client.host if request.client else ""
    sent_at = envelope.get("sentAt")
    try:
        verdicts = await asyncio.gather(*(pipeline.process(event, sent_at, client_ip) for event in batch))
    except ParseError as error:
        return refuse(400, "INVALID_ARGUMENT", str(error))
    except (grpc.aio.AioRpcError, KafkaException, BufferError):
        return refuse(503, "UNAVAILABLE", "try again later")
    return JSONResponse({"success": True, "accepted": verdicts.count("accepted")})


async def health(_request: Request) -> JSONResponse:
    """Say that it serves."""
    return JSONResponse({"status": "SERVING"})


def main() -> None:
    """Serve on the port of the environment until SIGTERM."""
    telemetry.start_tracing("typical-gateway")
    routes = [Route("/v1/{call}", collect, methods=["POST"]), Route("/healthz", health)]
    app = Starlette(routes=routes, middleware=telemetry.http_middleware(), lifespan=lifespan)
    listener = socket.create_server(("127.0.0.1", int(os.environ["TYPICAL_HTTP_PORT"])), backlog=1024)
    config = uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop", http="httptools")
    server = uvicorn.Server(config)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
