"""One connection's life: keep-alive, order, HEAD, HTTP/1.0, Expect, hang-ups and failures of the handler."""

import asyncio
import http.client
import time

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.http.limits import HttpLimits
from gateway.http.message import Request, Response, json_response
from mesh.errors import Overloaded
from tests.gateway.http.raw import echo, get, post, serve


async def test_a_request_reaches_the_handler_whole() -> None:
    """The handler sees method, decoded path, raw query, headers, body, address and time; the client its answer."""
    async with serve() as site, site.client() as client:
        reply = await client.ask(post(b'{"a":1}', "X-Two:  b ", path="/v1/caf%C3%A9?q=%20&r"))
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["date"] == "Sun, 15 Jun 2025 15:06:40 GMT"
    assert "connection" not in reply.headers
    assert reply.json == {
        "method": "POST",
        "path": "/v1/café",
        "query": "q=%20&r",
        "headers": [["host", "clew.test"], ["x-two", "b"], ["content-length", "7"]],
        "body": '{"a":1}',
        "peer": "127.0.0.1",
        "received_ns": 1_750_000_000 * 10**9,
    }


async def test_one_connection_serves_many_requests() -> None:
    """HTTP/1.1 keeps the connection, with bodies by length, in chunks and without one in turn."""
    chunked = (
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    )
    async with serve() as site, site.client() as client:
        for _ in range(3):
            assert (await client.ask(post(b"xyz"))).json["body"] == "xyz"
            assert (await client.ask(chunked)).json["body"] == "abcde"
            assert (await client.ask(get("/g"))).json["body"] == ""
        assert site.server.connections == 1


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    """Requests sent at once run one after the other, however long each takes, and their answers keep the order."""
    running = 0

    async def handler(request: Request) -> Response:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.02 if request.path.endswith(("0", "3")) else 0)
        running -= 1
        return json_response(200, {"path": request.path})

    async with serve(handler) as site, site.client() as client:
        await client.send(b"".join(get(f"/{index}") for index in range(20)))
        assert [(await client.reply()).json["path"] for _ in range(20)] == [f"/{index}" for index in range(20)]


async def test_pipelining_is_bounded() -> None:
    """While one request is answered, reading pauses above a bound, so that a client cannot fill the memory."""
    release = asyncio.Event()

    async def handler(request: Request) -> Response:
        await release.wait()
        return await echo(request)

    async with serve(handler, HttpLimits(pipelined_bytes=1024)) as site, site.client() as client:
        client.writer.transport.set_write_buffer_limits(high=1024)
        await client.send(get("/first"))
        await site.until(in_flight=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.send(post(b"x" * 4_000_000) * 8), 0.2)
        release.set()
        assert (await client.reply()).json["path"] == "/first"
        assert len((await client.reply()).body) > 4_000_000


async def test_blank_lines_before_a_request_are_ignored() -> None:
    """A client may end a body with one line break too many."""
    async with serve() as site, site.client() as client:
        assert (await client.ask(b"\r\n" + post(b"ab"))).status == 200
        await client.send(b"\r")
        await client.send(b"\n\r\n" + get("/next"))
        assert (await client.reply()).json["path"] == "/next"


async def test_head_is_answered_without_a_body() -> None:
    """HEAD tells the length of the body that GET would send, and sends none."""
    async with serve() as site, site.client() as client:
        await client.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = await client.reply(head_only=True)
        assert int(reply.headers["content-length"]) > 0
        assert (await client.ask(get("/y"))).json["path"] == "/y"


@pytest.mark.parametrize(
    ("request_bytes", "connection"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "close"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", "close"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, close\r\n\r\n", "close"),
    ],
)
async def test_the_connection_closes_when_the_client_says_so(request_bytes: bytes, connection: str) -> None:
    """HTTP/1.0 without keep-alive, and Connection: close, end the connection after the answer."""
    async with serve() as site, site.client() as client:
        reply = await client.ask(request_bytes)
        assert (reply.status, reply.headers["connection"]) == (200, connection)
        assert await client.rest() == b""


async def test_http_1_0_keeps_the_connection_when_asked() -> None:
    """An HTTP/1.0 client that asks for keep-alive is told that it has it."""
    async with serve() as site, site.client() as client:
        for _ in range(2):
            reply = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert reply.headers["connection"] == "keep-alive"


async def test_expect_continue_is_answered_before_the_body() -> None:
    """A client that waits for leave to send its body gets it, once the head holds."""
    async with serve() as site, site.client() as client:
        head, body = post(b"abc", "Expect: 100-continue")[:-3], b"abc"
        await client.send(head)
        assert (await client.reply()).status == 100
        assert (await client.ask(body)).json["body"] == "abc"


async def test_expect_continue_is_refused_for_a_body_that_is_too_large() -> None:
    """A declared length above the limit is refused instead of invited."""
    async with serve(limits=HttpLimits(body_bytes=10)) as site, site.client() as client:
        reply = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
        assert reply.status == 413


async def test_an_upgrade_is_ignored() -> None:
    """An offer to speak another protocol is answered in this one."""
    async with serve() as site, site.client() as client:
        reply = await client.ask(
            get("/up", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
        )
        assert reply.json["path"] == "/up"
        assert (await client.ask(get("/again"))).status == 200


@pytest.mark.parametrize("half", [False, True], ids=["close", "half-close"])
async def test_a_hang_up_cancels_the_handler_at_once(half: bool) -> None:
    """When the client goes away mid-request, the handler's task is cancelled well within 200 ms."""
    cancelled_at: list[float] = []

    async def handler(_: Request) -> Response:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled_at.append(time.monotonic())
            raise
        return Response(200)

    async with serve(handler) as site, site.client() as client:
        await client.send(post(b"{}") + get("/pipelined"))
        await site.until(in_flight=1)
        left_at = time.monotonic()
        if half:
            client.writer.write_eof()
        else:
            client.hang_up()
        await site.until(in_flight=0, connections=0)
    assert len(cancelled_at) == 1
    assert cancelled_at[0] - left_at < 0.2


async def test_a_hang_up_before_the_handler_ran_leaves_no_count_behind() -> None:
    """A request and a hang-up that arrive together are forgotten without a trace."""
    async with serve() as site:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(post(b"{}"))
            writer.write_eof()
            writer.close()
        await site.until(in_flight=0, connections=0)


async def test_a_refusal_becomes_a_problem_and_the_connection_stays() -> None:
    """A ClewError is a problem with its status, a whole Retry-After, and the trace id that the handler set."""

    async def handler(request: Request) -> Response:
        request.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        raise Overloaded("queue is full", retry_after_seconds=7)

    async with serve(handler) as site, site.client() as client:
        for _ in range(2):
            reply = await client.ask(post(b"{}"))
            assert (reply.status, reply.headers["retry-after"]) == (503, "7")
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json["code"] == "OVERLOADED"
            assert reply.json["message"] == "queue is full"
            assert reply.json["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_an_unexpected_failure_tells_the_client_nothing() -> None:
    """Any other exception is a 500 without its text; the log has it under the trace id that the client got."""

    async def handler(_: Request) -> Response:
        raise RuntimeError("the secret is here")

    with capture_logs() as logs:
        async with serve(handler) as site, site.client() as client:
            reply = await client.ask(post(b"{}"))
            assert (await client.ask(post(b"{}"))).status == 500
    assert (reply.status, reply.json["code"]) == (500, "INTERNAL")
    assert b"secret" not in reply.body
    assert logs[0]["trace_id"] == reply.json["trace_id"]


async def test_a_cancellation_from_within_is_a_failure_not_a_hang() -> None:
    """A handler whose own await is cancelled by somebody else still has its client answered."""

    async def handler(_: Request) -> Response:
        raise asyncio.CancelledError

    with capture_logs():
        async with serve(handler) as site, site.client() as client:
            assert (await client.ask(get())).status == 500


@pytest.mark.parametrize(
    "response",
    [
        Response(200, headers=(("x-a", "b\r\nset-cookie: c"),)),
        Response(200, headers=(("x a", "b"),)),
        Response(204, b"body"),
        Response(99),
    ],
)
async def test_a_response_that_cannot_be_sent_is_a_failure(response: Response) -> None:
    """A handler cannot split a response, nor leave its client waiting, by a malformed answer."""

    async def handler(_: Request) -> Response:
        return response

    with capture_logs() as logs:
        async with serve(handler) as site, site.client() as client:
            reply = await client.ask(get())
    assert reply.status == 500
    assert "set-cookie" not in reply.headers
    assert logs


async def test_a_response_without_content_has_no_length() -> None:
    """204 has neither a body nor fields about one."""

    async def handler(_: Request) -> Response:
        return Response(204)

    async with serve(handler) as site, site.client() as client:
        reply = await client.ask(get())
        assert reply.status == 204
        assert not {"content-length", "content-type"} & reply.headers.keys()
        assert (await client.ask(get())).status == 204


async def test_many_clients_are_served_at_once() -> None:
    """A handler that waits, on one connection, does not hold up another: none is answered before all are asked."""
    all_are_here = asyncio.Barrier(30)

    async def handler(_: Request) -> Response:
        await all_are_here.wait()
        return Response(200)

    async with (
        asyncio.timeout(60),
        serve(handler) as site,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", timeout=60) as client,
    ):
        replies = await asyncio.gather(*(client.post("/", content=b"{}") for _ in range(30)))
    assert {reply.status_code for reply in replies} == {200}


async def test_the_standard_librarys_client_is_served() -> None:
    """http.client reads our answers and keeps its connection, with a body in chunks as well."""

    def talk(port: int) -> list[bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        bodies = []
        for body in (b"plain", iter([b"in ", b"chunks"])):
            connection.request("POST", "/x", body=body, encode_chunked=not isinstance(body, bytes))
            bodies.append(connection.getresponse().read())
        connection.close()
        return bodies

    async def handler(request: Request) -> Response:
        return Response(200, request.body, "text/plain")

    async with serve(handler) as site:
        assert await asyncio.to_thread(talk, site.port) == [b"plain", b"in chunks"]
