"""What a client sends as headers stays at the edge: nothing of it becomes metadata of an internal call or a record."""

import json

from opentelemetry.metrics import NoOpMeter

from gateway.admission import Admission
from gateway.collect import Collector
from gateway.http.router import Router
from gateway.limits.limiter import Limiter
from gateway.limits.tarpit import Tarpit
from gateway.routes.collect import CollectHandler
from gateway.sources import Sources, hash_key
from gateway.stats import Stats
from mesh.jwt import IssuerVerifiers
from tests.gateway.http.raw import post, serve
from tests.gateway.scripted import SOURCE, running_stage

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE = [
    "X-Write-Key: k1",
    f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01",
    "tracestate: shop=evil-1",
    "baggage: evil-2=1",
    "grpc-timeout: 1n",
    "grpc-status: 7",
    "grpc-metadata-x: evil-3",
    "x-clew-workspace: evil-4",
    "clew-consent-epoch: evil-5",
    "clew-schema: evil-6",
    "ce_type: evil-7",
    "X-Forwarded-User: evil-8",
    "Cookie: evil-9",
    "user-agent: evil-10",
    "authority: evil-11",
]
# What gRPC itself sends. The trace, the one thing that continues what the client began, travels in the messages.
INTERNAL = {"user-agent"}


async def test_headers_do_not_travel_on() -> None:
    """Services see gRPC's own metadata and the trace context; records carry the headers that clew writes."""
    async with running_stage() as stage:
        admission = Admission(Sources({hash_key("k1"): SOURCE}), IssuerVerifiers([]))
        stats, limiter = Stats(NoOpMeter("test")), Limiter(NoOpMeter("test"))
        collector = Collector(admission, limiter, stage.pipeline, stats, request_seconds=5.0)
        router, tracer = Router(), stage.recorder.telemetry.tracer
        router.add(
            "POST", "/v1/track", CollectHandler(collector, tracer, "/v1/track", trust_forwarded=False, tarpit=Tarpit())
        )
        async with serve(router.handle) as site, site.client() as client:
            body = json.dumps({"event": "Seen", "anonymousId": "a"}).encode()
            assert (await client.ask(post(body, *HOSTILE, path="/v1/track"))).status == 200
        seen = [metadata for script in stage.scripts().values() for metadata in script.metadata]
        spans = [span for script in stage.scripts().values() for span in script.spans]
        (record,) = stage.bus.read("clew.events.v1")
    assert len(seen) == 3
    for metadata in seen:
        assert metadata.keys() <= INTERNAL
        assert "evil" not in str(metadata)
    # The services' own spans continue the trace that the client began.
    assert {f"{span.trace_id:032x}" for span in spans} == {TRACE}
    assert "evil" not in str(record.headers)
    assert dict(record.headers)["traceparent"].startswith(f"00-{TRACE}-".encode())
