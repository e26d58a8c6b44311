"""Unary calls between real servers and channels: statuses, spans, measurements, deadlines, cancellation."""

import asyncio
import gc
import socket
import time
import weakref
from contextlib import closing
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from structlog.testing import capture_logs

from clew.identity.v1 import identity_service_pb2 as identity
from clew.identity.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server
from mesh import deadline, errors, status
from mesh.channel import open_channel, wait_ready
from tests.mesh.rpc import IDENTITY, IdentityServicer, Mesh, Recorder, code_of, eventually, ids_of

METHOD = f"{IDENTITY}/GetProfile"
PROFILE_ID = "0190a6e2-7a4b-7cde-8f01-23456789abcd"
REQUEST = identity.GetProfileRequest(workspace="w", profile_id=PROFILE_ID)
Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

SECRET = "a-secret-in-the-text"


async def _ok(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
    return identity.GetProfileResponse()


async def _slow(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
    await asyncio.sleep(30)
    return identity.GetProfileResponse()


def _raising(error: BaseException) -> Any:
    async def answer(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        raise error

    return answer


async def _eventually(recorder: Recorder, kind: SpanKind, seconds: float = 5.0) -> ReadableSpan:
    """The span of a kind, which may end a little after the other side's."""
    await eventually(lambda: recorder.spans(kind), seconds)
    return recorder.span(kind)


async def _failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_call_that_succeeds(mesh: Mesh, recorder: Recorder) -> None:
    """Both sides have a span of the RPC conventions in one trace, and each measures the call."""
    stub = await mesh.identity(recorder, _ok)
    await stub.GetProfile(REQUEST, timeout=5)
    client, server = recorder.span(SpanKind.CLIENT), recorder.span(SpanKind.SERVER)
    assert client.name == server.name == METHOD
    assert server.parent is not None
    assert server.parent.span_id == ids_of(client).span_id
    assert dict(server.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }
    assert (client.attributes or {})["server.address"] == "127.0.0.1"
    assert isinstance((client.attributes or {})["server.port"], int)
    assert client.status.status_code is server.status.status_code is StatusCode.UNSET
    for name in ("rpc.server.call.duration", "rpc.client.call.duration"):
        (point,) = recorder.durations(name)
        assert point.count == 1
        assert (point.attributes or {})["rpc.response.status_code"] == "OK"


async def test_the_handler_runs_within_the_span(mesh: Mesh, recorder: Recorder) -> None:
    """What a servicer records belongs to the call's span."""
    seen = []

    async def answer(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        seen.append(get_current_span().get_span_context().span_id)
        return identity.GetProfileResponse()

    stub = await mesh.identity(recorder, answer)
    await stub.GetProfile(REQUEST, timeout=5)
    assert seen == [ids_of(recorder.span(SpanKind.SERVER)).span_id]


async def test_a_refusal_has_exactly_one_error_info(mesh: Mesh, recorder: Recorder) -> None:
    """A domain error reaches the caller as its status and one ErrorInfo; it is no fault of the server's span."""
    stub = await mesh.identity(recorder, _raising(errors.InvalidToken("token has expired", issuer="own")))
    failure = await _failure(stub.GetProfile(REQUEST, timeout=5))
    rich = rpc_status.from_call(cast("grpc.Call", failure))
    assert rich is not None
    infos = [info for detail in rich.details if detail.Unpack(info := error_details_pb2.ErrorInfo())]
    assert [info.reason for info in infos] == ["ERROR_REASON_INVALID_TOKEN"]
    back = status.error_from_rpc(failure, "identity")
    assert isinstance(back, errors.InvalidToken)
    assert (back.detail, back.metadata) == ("token has expired", {"issuer": "own"})
    server, client = recorder.span(SpanKind.SERVER), recorder.span(SpanKind.CLIENT)
    assert code_of(server) == code_of(client) == "UNAUTHENTICATED"
    assert (server.attributes or {})["clew.error.reason"] == "ERROR_REASON_INVALID_TOKEN"
    assert server.status.status_code is StatusCode.UNSET
    assert client.status.status_code is StatusCode.ERROR
    assert (client.attributes or {})["error.type"] == "UNAUTHENTICATED"


async def test_an_unexpected_error_leaks_no_text(mesh: Mesh, recorder: Recorder) -> None:
    """It is INTERNAL without its text for the caller and in the trace; the log has the traceback."""
    stub = await mesh.identity(recorder, _raising(RuntimeError(SECRET)))
    with capture_logs() as logs:
        failure = await _failure(stub.GetProfile(REQUEST, timeout=5))
    assert failure.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in str(failure) + str(failure.trailing_metadata())
    assert isinstance(status.error_from_rpc(failure, "identity"), errors.Internal)
    server = recorder.span(SpanKind.SERVER)
    assert SECRET not in server.to_json()
    assert (server.status.status_code, server.status.description) == (StatusCode.ERROR, "RuntimeError")
    assert "answer" in str((server.events[0].attributes or {})["exception.stacktrace"])
    (entry,) = logs
    assert (entry["log_level"], entry["method"]) == ("error", METHOD)
    assert str(entry["exc_info"]) == SECRET


async def test_a_broken_contract_never_reaches_the_servicer(mesh: Mesh, recorder: Recorder) -> None:
    """A request that breaks a constraint is refused with field and rule, before any work is done."""
    calls = []

    async def answer(request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        calls.append(request)
        return identity.GetProfileResponse()

    stub = await mesh.identity(recorder, answer)
    failure = await _failure(stub.GetProfile(identity.GetProfileRequest(profile_id=PROFILE_ID), timeout=5))
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.error_from_rpc(failure, "identity").metadata == {"field": "workspace", "rule": "string.min_len"}
    assert not calls


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x02\xc3\x28", b"\x0a\x7f"])
async def test_bytes_that_are_no_message(mesh: Mesh, recorder: Recorder, data: bytes) -> None:
    """They are the caller's mistake: a reason, none of our classes' names, and no traceback in the log."""
    servicer = IdentityServicer(_ok)
    _, port = await mesh.serve(recorder, lambda server: add_IdentityServiceServicer_to_server(servicer, server))
    channel = await mesh.connect(port, Recorder())
    call: Call = channel.unary_unary(f"/{METHOD}", lambda request: request, lambda answer: answer)
    with capture_logs() as logs:
        failure = await _failure(call(data, timeout=5))
    assert isinstance(status.error_from_rpc(failure, "identity"), errors.InvalidArgument)
    assert "DecodeError" not in (failure.details() or "")
    assert logs == []


async def test_an_unknown_rpc(mesh: Mesh, recorder: Recorder) -> None:
    """Even what is not offered is refused with an ErrorInfo, and names of callers make no span names."""
    _, port = await mesh.serve(recorder, lambda _server: None)
    channel = await mesh.connect(port, Recorder())
    call: Call = channel.unary_unary("/clew.identity.v1.IdentityService/Nope", lambda _request: b"", lambda data: data)
    error = status.error_from_rpc(await _failure(call(b"", timeout=5)), "identity")
    assert isinstance(error, errors.Unimplemented)
    assert error.metadata == {"method": "/clew.identity.v1.IdentityService/Nope"}
    assert recorder.span(SpanKind.SERVER).name == "_OTHER"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL),
    ],
)
async def test_failures_of_other_services(
    mesh: Mesh, recorder: Recorder, code: grpc.StatusCode, expected: grpc.StatusCode
) -> None:
    """A servicer that lets another service's failure through passes on what is transient; the rest is its own fault."""
    failed = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=SECRET)
    stub = await mesh.identity(recorder, _raising(failed))
    with capture_logs():
        failure = await _failure(stub.GetProfile(REQUEST, timeout=5))
    assert failure.code() is expected
    assert SECRET not in str(failure)


async def test_a_servicer_may_abort_by_itself(mesh: Mesh, recorder: Recorder) -> None:
    """An abort through the context keeps its status, on the wire and in the span."""

    async def answer(_request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        raise AssertionError

    stub = await mesh.identity(recorder, answer)
    assert (await _failure(stub.GetProfile(REQUEST, timeout=5))).code() is grpc.StatusCode.NOT_FOUND
    assert code_of(await _eventually(recorder, SpanKind.SERVER)) == "NOT_FOUND"


async def test_the_deadline_passes(mesh: Mesh, recorder: Recorder) -> None:
    """Both sides see DEADLINE_EXCEEDED, as an error."""
    stub = await mesh.identity(recorder, _slow)
    failure = await _failure(stub.GetProfile(REQUEST, timeout=0.1))
    assert isinstance(status.error_from_rpc(failure, "identity"), errors.DeadlineExceeded)
    for kind in (SpanKind.CLIENT, SpanKind.SERVER):
        span = await _eventually(recorder, kind)
        assert code_of(span) == "DEADLINE_EXCEEDED"
        assert span.status.status_code is StatusCode.ERROR


async def test_the_deadline_shrinks_over_two_hops(mesh: Mesh, recorder: Recorder) -> None:
    """Each hop gets what the one before left, less its margin, whatever timeout it asks for."""
    lefts = []

    async def leaf(_request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        lefts.append(context.time_remaining())
        return identity.GetProfileResponse()

    inner = await mesh.identity(recorder, leaf)

    async def middle(request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        lefts.append(context.time_remaining())
        await asyncio.sleep(0.1)
        return await inner.GetProfile(request, timeout=60)

    outer = await mesh.identity(recorder, middle)
    with deadline.deadline_scope(2.0):
        await outer.GetProfile(REQUEST, timeout=60)
    # On the wire gRPC rounds a timeout up, by at most one per cent.
    assert lefts[0] <= 2.0
    assert lefts[0] - lefts[1] > 0.09
    assert len(recorder.spans()) == 4
    assert len({ids_of(span).trace_id for span in recorder.spans()}) == 1


async def test_every_call_has_a_timeout(mesh: Mesh, recorder: Recorder) -> None:
    """A caller who names none, and has no deadline, gets the default."""
    lefts = []

    async def answer(_request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        lefts.append(context.time_remaining())
        return identity.GetProfileResponse()

    stub = await mesh.identity(recorder, answer)
    await stub.GetProfile(REQUEST)
    assert lefts[0] == pytest.approx(10, abs=0.5)


async def test_no_call_without_time(mesh: Mesh, recorder: Recorder) -> None:
    """When nothing is left of the deadline the call is refused at once, not made."""
    stub = await mesh.identity(recorder, _ok)
    with deadline.deadline_scope(0.0), pytest.raises(errors.DeadlineExceeded):
        stub.GetProfile(REQUEST, timeout=5)
    assert not recorder.spans()


async def test_a_cancelled_caller_is_seen_downstream(mesh: Mesh, recorder: Recorder) -> None:
    """When the first caller goes away, every hop sees CANCELLED within 200 ms, and its work stops."""
    started = asyncio.Event()
    stopped = []

    async def leaf(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            stopped.append(time.monotonic())
        return identity.GetProfileResponse()

    inner = await mesh.identity(recorder, leaf)
    outer = await mesh.identity(recorder, lambda request, _context: inner.GetProfile(request, timeout=20))

    async def caller() -> None:
        await outer.GetProfile(REQUEST, timeout=20)

    task = asyncio.create_task(caller())
    await asyncio.wait_for(started.wait(), 5)
    cancelled = time.monotonic()
    task.cancel()
    await eventually(lambda: len(recorder.spans()) == 4, 0.2)
    assert stopped[0] - cancelled < 0.2
    assert {code_of(span) for span in recorder.spans()} == {"CANCELLED"}
    with pytest.raises(asyncio.CancelledError):
        await task
    for server in recorder.spans(SpanKind.SERVER):
        assert server.status.status_code is StatusCode.UNSET
    for client in recorder.spans(SpanKind.CLIENT):
        assert client.status.status_code is StatusCode.ERROR


async def test_a_call_cancelled_before_it_starts(mesh: Mesh, recorder: Recorder) -> None:
    """A call object that is cancelled at once still ends its span, once."""
    stub = await mesh.identity(recorder, _ok)
    call = stub.GetProfile(REQUEST, timeout=5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert code_of(recorder.span(SpanKind.CLIENT)) == "CANCELLED"


async def test_something_else_was_cancelled(mesh: Mesh, recorder: Recorder) -> None:
    """A servicer that fails because what it waited for was cancelled answers at once, as for any other fault."""

    async def answer(_request: identity.GetProfileRequest, _context: Any) -> identity.GetProfileResponse:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        return identity.GetProfileResponse()

    stub = await mesh.identity(recorder, answer)
    with capture_logs():
        failure = await _failure(stub.GetProfile(REQUEST, timeout=5))
    assert failure.code() is grpc.StatusCode.INTERNAL


async def test_a_server_that_is_not_there(recorder: Recorder) -> None:
    """A call to nobody is UNAVAILABLE, and the name of the upstream is known."""
    channel = open_channel("127.0.0.1:1", service="identity", telemetry=recorder.telemetry)
    call: Call = channel.unary_unary(f"/{METHOD}", lambda _request: b"", lambda data: data)
    error = status.error_from_rpc(await _failure(call(b"", timeout=5)), "identity")
    assert isinstance(error, errors.UpstreamUnavailable)
    assert error.metadata == {"service": "identity"}
    assert code_of(recorder.span(SpanKind.CLIENT)) == "UNAVAILABLE"
    with pytest.raises(errors.UpstreamUnavailable) as caught:
        await wait_ready(channel, 0.2)
    assert caught.value.metadata == {"service": "identity"}
    await channel.close()


async def test_no_proxy_of_the_environment_is_asked(
    mesh: Mesh, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `http_proxy` leads to the internet, the services still reach each other, and it sees nothing of it."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        proxy.setblocking(False)
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        stub = await mesh.identity(recorder, _ok)
        await stub.GetProfile(REQUEST, timeout=5)
        with pytest.raises(BlockingIOError):
            proxy.accept()


async def test_a_closed_channel(mesh: Mesh, recorder: Recorder) -> None:
    """A call on a closed channel raises at once, and its span ends."""
    _, port = await mesh.serve(recorder, lambda _server: None)
    channel = await mesh.connect(port, recorder)
    call: Call = channel.unary_unary(f"/{METHOD}", lambda _request: b"", lambda data: data)
    await channel.close()
    with pytest.raises(grpc.aio.UsageError):
        await call(b"", timeout=5)
    assert len(recorder.spans(SpanKind.CLIENT)) == 1


async def test_metadata_from_clients_is_not_forwarded(mesh: Mesh, recorder: Recorder) -> None:
    """The next hop sees the trace headers and nothing that the first caller sent, baggage included."""
    seen: list[dict[str, object]] = []

    async def leaf(_request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        seen.append(dict(context.invocation_metadata()))
        return identity.GetProfileResponse()

    inner = await mesh.identity(recorder, leaf)
    outer = await mesh.identity(recorder, lambda request, _context: inner.GetProfile(request, timeout=5))
    mine = (("authorization", "Bearer x"), ("x-admin", "1"), ("baggage", "user=1"))
    await outer.GetProfile(REQUEST, timeout=5, metadata=mine)
    assert set(seen[0]) == {"traceparent", "user-agent"}


async def test_the_callers_own_metadata_is_sent(mesh: Mesh, recorder: Recorder) -> None:
    """What a caller adds to one call goes with that call, beside the trace headers."""
    seen: list[dict[str, object]] = []

    async def answer(_request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        seen.append(dict(context.invocation_metadata()))
        return identity.GetProfileResponse()

    stub = await mesh.identity(recorder, answer)
    await stub.GetProfile(REQUEST, timeout=5, metadata=(("authorization", "Bearer internal"),))
    await stub.GetProfile(REQUEST, timeout=5, metadata=grpc.aio.Metadata(("authorization", "Bearer other")))
    assert [metadata["authorization"] for metadata in seen] == ["Bearer internal", "Bearer other"]
    assert all("traceparent" in metadata for metadata in seen)


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"])
async def test_bad_trace_headers_start_a_new_trace(mesh: Mesh, recorder: Recorder, traceparent: str) -> None:
    """A header that cannot be read costs the caller its trace, not its call."""
    _, port = await mesh.serve(recorder, lambda _server: None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Call = channel.unary_unary(f"/{METHOD}")
        await _failure(call(b"", timeout=5, metadata=(("traceparent", traceparent),)))
    assert recorder.span(SpanKind.SERVER).parent is None


async def test_finished_calls_leave_no_garbage(mesh: Mesh, recorder: Recorder) -> None:
    """A call is freed when its last user lets go of it, without waiting for the garbage collector."""
    stub = await mesh.identity(recorder, _ok)
    gc.disable()
    try:
        call = stub.GetProfile(REQUEST, timeout=5)
        await call
        reference = weakref.ref(call)
        del call
        await asyncio.sleep(0.01)
        assert reference() is None
    finally:
        gc.enable()


async def test_two_hundred_calls_at_once(mesh: Mesh, recorder: Recorder) -> None:
    """Calls that overlap keep their spans and deadlines apart."""

    async def answer(_request: identity.GetProfileRequest, context: Any) -> identity.GetProfileResponse:
        before = deadline.left()
        await asyncio.sleep(0.02)
        after = deadline.left()
        assert before is not None
        assert after is not None
        assert before > after
        assert abs(after - context.time_remaining()) < 0.1
        return identity.GetProfileResponse()

    stub = await mesh.identity(recorder, answer)
    calls = [stub.GetProfile(REQUEST, timeout=5 + number / 10) for number in range(200)]
    await asyncio.gather(*calls)
    parents = {span.parent.span_id for span in recorder.spans(SpanKind.SERVER) if span.parent}
    assert parents == {ids_of(span).span_id for span in recorder.spans(SpanKind.CLIENT)}
    assert len(parents) == 200
