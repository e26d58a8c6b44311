"""A server's life: health, reflection, limits, drain."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from structlog.testing import capture_logs

from clew.identity.v1 import identity_service_pb2 as identity
from clew.identity.v1 import identity_service_pb2_grpc as identity_grpc
from mesh import errors, status
from mesh.channel import wait_ready
from mesh.server import DRAIN_LEAD_SECONDS, GrpcServer, ServerSettings, serve_until_stopped
from mesh.settings import SettingsError, read_settings
from tests.mesh.rpc import IDENTITY, Answer, IdentityServicer, Mesh, Recorder

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = identity.GetProfileRequest(workspace="w", profile_id="0190a6e2-7a4b-7cde-8f01-23456789abcd")


async def _at_once(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
    return identity.GetProfileResponse()


def _after(seconds: float) -> Answer:
    async def answer(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        await asyncio.sleep(seconds)
        return identity.GetProfileResponse()

    return answer


async def _identity(
    mesh: Mesh, recorder: Recorder, answer: Answer, settings: ServerSettings | None = None
) -> tuple[GrpcServer, grpc.aio.Channel]:
    def register(server: grpc.aio.Server) -> None:
        identity_grpc.add_IdentityServiceServicer_to_server(IdentityServicer(answer), server)

    server, port = await mesh.serve(recorder, register, (IDENTITY,), settings)
    return server, await mesh.connect(port, recorder)


def _check(channel: grpc.aio.Channel, service: str) -> Any:
    call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service), timeout=5)


def _watch(channel: grpc.aio.Channel, service: str) -> Any:
    call: grpc.aio.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service))


async def test_health_check(mesh: Mesh, recorder: Recorder) -> None:
    """The process and each named service are SERVING; others are not known; probes leave no spans."""
    _, channel = await _identity(mesh, recorder, _at_once)
    assert (await _check(channel, "")).status == SERVING
    assert (await _check(channel, IDENTITY)).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _check(channel, "other.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert not recorder.spans()


async def test_health_watch_through_a_drain(mesh: Mesh, recorder: Recorder) -> None:
    """A watcher sees SERVING, then NOT_SERVING before calls are refused; watches do not hold the drain up."""
    server, port = await mesh.serve(recorder, lambda _server: None, (IDENTITY,))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch = _watch(channel, IDENTITY)
        assert (await watch.read()).status == SERVING
        started = time.monotonic()
        drain = asyncio.create_task(server.drain())
        assert (await watch.read()).status == NOT_SERVING
        assert (await _check(channel, "")).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
    await drain
    assert server.draining.is_set()
    assert time.monotonic() - started < 2


async def test_channels_leave_a_draining_server(mesh: Mesh, recorder: Recorder) -> None:
    """Our own channels watch health: a server that drains gets no more calls, even before it refuses them."""
    server, channel = await _identity(mesh, recorder, _at_once)
    running = asyncio.create_task(server.drain())
    await asyncio.sleep(DRAIN_LEAD_SECONDS / 2)
    with pytest.raises(grpc.aio.AioRpcError, match="unhealthy"):
        await identity_grpc.IdentityServiceStub(channel).GetProfile(REQUEST, timeout=5)
    await running


async def test_watching_a_service_that_is_not_known(mesh: Mesh, recorder: Recorder) -> None:
    """A watch on a service that may come later starts with SERVICE_UNKNOWN."""
    _, channel = await _identity(mesh, recorder, _at_once)
    watch = _watch(channel, "other.Service")
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_a_running_call_ends_within_the_grace(mesh: Mesh, recorder: Recorder) -> None:
    """A drain lets a call that runs finish, and takes no longer than that."""
    server, channel = await _identity(mesh, recorder, _after(0.4))
    call = asyncio.ensure_future(identity_grpc.IdentityServiceStub(channel).GetProfile(REQUEST, timeout=5))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await server.drain()
    assert await call == identity.GetProfileResponse()
    assert 0.1 < time.monotonic() - started < 2


async def test_new_calls_are_refused_after_a_drain(mesh: Mesh, recorder: Recorder) -> None:
    """A caller that comes too late is told that the service is unavailable."""
    server, channel = await _identity(mesh, recorder, _at_once)
    await server.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await identity_grpc.IdentityServiceStub(channel).GetProfile(REQUEST, timeout=5)
    assert isinstance(status.error_from_rpc(caught.value, "identity"), errors.UpstreamUnavailable)


async def test_channels_return_to_a_restarted_server(mesh: Mesh, recorder: Recorder) -> None:
    """A channel outlives the server's restart: it reconnects within a few seconds, by itself."""
    first, port = await mesh.serve(recorder, lambda _server: None, (IDENTITY,))
    channel = await mesh.connect(port, recorder)
    await first.drain()
    await mesh.serve(recorder, lambda _server: None, (IDENTITY,), ServerSettings(listen=f"127.0.0.1:{port}"))
    await wait_ready(channel, 5)


async def test_a_call_that_outlasts_the_grace_is_cancelled(mesh: Mesh, recorder: Recorder) -> None:
    """A drain ends in time even when a call does not."""
    server, channel = await _identity(mesh, recorder, _after(30), ServerSettings(drain_seconds=0.2))
    call = asyncio.ensure_future(identity_grpc.IdentityServiceStub(channel).GetProfile(REQUEST, timeout=20))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await server.drain()
    assert time.monotonic() - started < 2
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def _reflected(channel: grpc.aio.Channel) -> list[str]:
    # One request, written with the call's first batch: a stream's own write may come after a refusal and then hides it.
    call: grpc.aio.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = [answer async for answer in call(reflection_pb2.ServerReflectionRequest(list_services=""), timeout=5)]
    return [service.name for answer in answers for service in answer.list_services_response.service]


async def test_reflection_lists_the_services(mesh: Mesh, recorder: Recorder) -> None:
    """Tools can ask what a server offers."""
    _, channel = await _identity(mesh, recorder, _at_once)
    assert await _reflected(channel) == sorted(
        [IDENTITY, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    )


async def test_reflection_is_a_setting(mesh: Mesh, recorder: Recorder) -> None:
    """A server that is told not to reflect does not."""
    _, channel = await _identity(mesh, recorder, _at_once, ServerSettings(reflection=False))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _reflected(channel)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_limit_of_concurrent_calls(mesh: Mesh, recorder: Recorder) -> None:
    """Calls beyond the limit are refused at once, as overload."""
    # The channel's own health watch is one of the two.
    _, channel = await _identity(mesh, recorder, _after(0.5), ServerSettings(max_concurrent_rpcs=2))
    stub = identity_grpc.IdentityServiceStub(channel)
    running = asyncio.ensure_future(stub.GetProfile(REQUEST, timeout=5))
    await asyncio.sleep(0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetProfile(REQUEST, timeout=5)
    assert isinstance(status.error_from_rpc(caught.value, "identity"), errors.Overloaded)
    await running


async def test_large_messages_pass(mesh: Mesh, recorder: Recorder) -> None:
    """A batch of several MiB fits, beyond gRPC's default of 4."""
    seen = []

    async def answer(request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        seen.append(request.ByteSize())
        return identity.GetProfileResponse()

    _, channel = await _identity(mesh, recorder, answer)
    request = identity.GetProfileRequest(workspace="w")
    request.identifier.value = "x"
    request.identifier.kind = 1  # type: ignore[assignment]
    request.MergeFromString(b"\xfa\x7f" + b"\x80\x80\x80\x04" + b"x" * (8 * 1024 * 1024))
    await identity_grpc.IdentityServiceStub(channel).GetProfile(request, timeout=20)
    assert seen[0] > 8 * 1024 * 1024


async def test_two_servers_never_share_a_port(mesh: Mesh, recorder: Recorder) -> None:
    """A port that is in use is a settings error that names the variable."""
    _, port = await mesh.serve(recorder, lambda _server: None)
    second = GrpcServer("second", ServerSettings(listen=f"127.0.0.1:{port}"), recorder.telemetry)
    with pytest.raises(SettingsError, match=f"CLEW_LISTEN: '127.0.0.1:{port}' cannot be bound"):
        await second.start(())


@pytest.mark.parametrize(
    "listen", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:80x", ":80", "::1", "a b:80"]
)
def test_an_address_without_a_port_of_its_own_is_refused(listen: str) -> None:
    """Port 443 would be taken for an absent one, and 34463 for 99999."""
    with pytest.raises(SettingsError, match=r"CLEW_LISTEN: .* is no HOST:PORT"):
        read_settings(ServerSettings, {"CLEW_LISTEN": listen})


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:50051", "localhost:0"])
def test_an_address_is_a_host_and_a_port(listen: str) -> None:
    """IPv4, IPv6 in brackets, and names."""
    assert read_settings(ServerSettings, {"CLEW_LISTEN": listen}).listen == listen


@pytest.mark.parametrize("calls", ["0", "99999999999999999999"])
def test_a_limit_of_calls_that_grpc_cannot_hold_is_refused(calls: str) -> None:
    """It is told as a bad setting, and not as an error of the library."""
    with pytest.raises(SettingsError, match="CLEW_MAX_CONCURRENT_RPCS"):
        read_settings(ServerSettings, {"CLEW_MAX_CONCURRENT_RPCS": calls})


async def test_serving_until_stopped(recorder: Recorder) -> None:
    """A process serves until it is told to stop, says so in the log, and drains."""
    stop = asyncio.Event()
    ports: list[int] = []
    server = GrpcServer("identity", ServerSettings(), recorder.telemetry)
    identity_grpc.add_IdentityServiceServicer_to_server(IdentityServicer(_at_once), server.server)
    with capture_logs() as logs:
        serving = asyncio.create_task(serve_until_stopped(server, (IDENTITY,), stop=stop, on_start=ports.append))
        async with asyncio.timeout(10):
            while not ports:  # noqa: ASYNC110 - the callback is what is tested
                await asyncio.sleep(0.01)
            stop.set()
            await serving
    assert [entry["event"] for entry in logs] == ["serving", "draining", "stopped"]
    assert logs[0]["port"] == ports[0]
