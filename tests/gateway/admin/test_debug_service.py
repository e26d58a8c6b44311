"""The live view by rpc: who may watch, when it begins and when it ends."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from opentelemetry.trace import SpanContext

from clew.admin.v1.edge_debug_service_pb2 import TailEventsRequest, TailEventsResponse
from clew.admin.v1.edge_debug_service_pb2_grpc import EdgeDebugServiceStub, add_EdgeDebugServiceServicer_to_server
from clew.collector.v1.collector_service_pb2 import Verdict
from gateway.admin.debug_service import EdgeDebugServicer
from gateway.admission import Admission
from gateway.errors import UnknownWriteKey
from gateway.sources import Source, Sources, hash_key
from gateway.tap import MAX_WATCHERS, Tap
from mesh.clock import FixedClock, SystemClock
from mesh.errors import ClewError, Draining, InsufficientScope, InvalidToken, MissingCredentials, Overloaded
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, Verifier
from mesh.status import error_from_rpc
from tests.mesh.rpc import Recorder, eventually, running_mesh

ISSUER = "https://clew.test"
SOURCE = Source("shop", "web", frozenset({1}))
TRACE = SpanContext(0xABC, 1, is_remote=False)
REFUSAL = UnknownWriteKey("no such key")


@dataclass(slots=True)
class Watch:
    """A served tap."""

    tap: Tap
    stub: Any
    clock: FixedClock
    signer: Signer
    calls: list[Any] = field(default_factory=list)

    async def start(self, *scopes: str, **fields: Any) -> Any:
        """Begin to watch: when this returns, what happens is seen."""
        token = self.signer.sign("ops", "clew", lifetime_seconds=60, scopes=scopes or ("clew.admin",)).token
        call = self.stub.TailEvents(TailEventsRequest(**fields), metadata=(("authorization", f"Bearer {token}"),))
        self.calls.append(call)
        await call.initial_metadata()
        return call

    def happen(self, source: Source | None = SOURCE) -> None:
        """Something that is seen."""
        self.tap.refused(source, REFUSAL, TRACE, 1)


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """The real servicer behind a real server, with what stands around every rpc."""
    clock = FixedClock(SystemClock().now_ns())
    signer = Signer(generate_private_key(SECP256R1()), ISSUER, clock=clock)
    verifier = Verifier(ISSUER, "clew", JwksSource.fixed(signer.jwks()), clock=clock)
    tap = Tap()
    servicer = EdgeDebugServicer(tap, Admission(Sources({hash_key("k1"): SOURCE}), IssuerVerifiers([verifier])), clock)
    recorder = Recorder()
    async with running_mesh() as mesh:
        _, port = await mesh.serve(recorder, lambda server: add_EdgeDebugServiceServicer_to_server(servicer, server))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = Watch(tap, EdgeDebugServiceStub(channel), clock, signer)
            yield watch
            for call in watch.calls:
                call.cancel()


async def refusal_of(call: Any) -> ClewError:
    """What a stream ended with."""

    async def read_all() -> None:
        while await call.read() is not grpc.aio.EOF:
            continue

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_all()
    return error_from_rpc(raised.value, "gateway")


async def test_what_happens_is_streamed(watch: Watch) -> None:
    """From the moment at which the stream has begun, with the trace that leads on."""
    call = await watch.start()
    watch.happen()
    response: TailEventsResponse = await call.read()
    assert (response.event.source, response.event.trace_id, response.lost_events) == ("web", f"{0xABC:032x}", 0)
    assert response.event.stages[-1].reason == "ERROR_REASON_UNKNOWN_WRITE_KEY"
    assert response.event.stages[-1].detail == "no such key"


async def test_the_filters_of_the_request_hold(watch: Watch) -> None:
    """Only what was asked for comes."""
    call = await watch.start(source="app", workspace="shop", verdicts=[Verdict.VERDICT_UNSPECIFIED])
    watch.happen()
    watch.happen(None)
    watch.happen(Source("shop", "app", frozenset({1})))
    assert (await call.read()).event.source == "app"


async def test_a_reader_that_does_not_read_is_told_what_it_lost(watch: Watch) -> None:
    """The edge went on; the numbers add up."""
    call = await watch.start()
    for _ in range(1_000):
        watch.happen()
    told = 0
    while told < 1_000:
        response = await asyncio.wait_for(call.read(), 5)
        told += response.HasField("event") + response.lost_events
    assert told == 1_000


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), MissingCredentials),
        ((("x-write-key", "k1"),), MissingCredentials),
        ((("authorization", "Basic azE6"),), MissingCredentials),
        ((("authorization", "Bearer k1"),), InvalidToken),
    ],
)
async def test_nobody_watches_without_a_token(watch: Watch, metadata: Any, expected: type[ClewError]) -> None:
    """A write key shows nothing."""
    assert isinstance(await refusal_of(watch.stub.TailEvents(TailEventsRequest(), metadata=metadata)), expected)
    assert not watch.tap.open


async def test_watching_takes_a_scope_for_it(watch: Watch) -> None:
    """Reading the sources is not watching the events."""
    token = watch.signer.sign("ops", "clew", lifetime_seconds=60, scopes=["clew.sources.write"]).token
    call = watch.stub.TailEvents(TailEventsRequest(), metadata=(("authorization", f"Bearer {token}"),))
    assert isinstance(await refusal_of(call), InsufficientScope)
    await watch.start("clew.debug.read")
    assert watch.tap.open


async def test_a_reader_that_goes_away_costs_nothing_more(watch: Watch) -> None:
    """The data path is told within a moment that nobody watches."""
    call = await watch.start()
    assert watch.tap.open
    call.cancel()
    await eventually(lambda: not watch.tap.open)


async def test_the_stream_ends_with_the_token(watch: Watch) -> None:
    """Whoever watches on has to show a new one."""
    call = await watch.start()
    watch.clock.advance(61)
    watch.happen()
    assert (await call.read()).event.source == "web"
    assert isinstance(await refusal_of(call), InvalidToken)


async def test_the_stream_ends_when_the_gateway_stops(watch: Watch) -> None:
    """At once, and not when the drain's time is over."""
    call = await watch.start()
    watch.tap.close()
    assert isinstance(await refusal_of(call), Draining)


async def test_only_so_many_watch(watch: Watch) -> None:
    """One more is refused, and let in when another has gone."""
    calls = [await watch.start() for _ in range(MAX_WATCHERS)]
    assert isinstance(await refusal_of(await watch.start()), Overloaded)
    calls[0].cancel()
    await eventually(lambda: len(watch.tap._watchers) < MAX_WATCHERS)
    await watch.start()
    assert len(watch.tap._watchers) == MAX_WATCHERS
