"""However the network cuts what a client sends, the edge sees the same; and nothing that it is sent breaks it."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http.connection import Connection
from gateway.http.edge import Edge, FindDirect, no_direct
from gateway.http.limits import HttpLimits
from gateway.http.message import Request, Response
from mesh.clock import FixedClock
from tests.gateway.http.raw import DirectEcho, FakeTransport, cut, echo, get, post

_POOL: Final = ThreadPoolExecutor(1)
_SMALL: Final = HttpLimits(header_bytes=2000, body_bytes=3000, header_count=20, inflated_bytes=5000)
_TRACE_ID: Final = re.compile(rb'"trace_id":"[0-9a-f]{32}"')


async def _converse(pieces: list[bytes], find_direct: FindDirect) -> bytes:
    """All that a connection answers to the pieces, the handler's turns between them included."""
    edge = Edge(
        handler=echo,
        limits=_SMALL,
        clock=FixedClock(),
        decorate=lambda _, response: response,
        loop=asyncio.get_running_loop(),
        pool=_POOL,
        find_direct=find_direct,
    )
    connection = Connection(edge)
    transport = FakeTransport(connection)
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    # Every pipelined request takes a few turns of the loop.
    for _ in range(200):
        await asyncio.sleep(0)
    assert edge.in_flight == 0
    transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (edge.held_bytes, edge.connections) == (0, set())
    return _TRACE_ID.sub(b"", bytes(transport.written))


def _answers(pieces: list[bytes], *, direct: bool = False) -> bytes:
    return asyncio.run(_converse(pieces, (lambda _: DirectEcho()) if direct else no_direct))


def _statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
_VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)
_FIELDS = st.lists(st.builds("X-{}: {}".format, _TOKEN, _VALUE), max_size=8)
# Bodies are echoed: one that looks like a status line would be counted as an answer.
_BODY = st.binary(max_size=200).filter(lambda body: not body.startswith(b"\x1f\x8b") and b"HTTP/1.1" not in body)


def _chunked(chunks: list[bytes], fields: list[str]) -> bytes:
    head = "\r\n".join(["POST /c?d HTTP/1.1", "Host: a", *fields, "Transfer-Encoding: chunked", "", ""]).encode()
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    return head + framed + b"0\r\n\r\n"


_REQUEST = st.one_of(
    st.builds(lambda fields: get("/g", *fields), _FIELDS),
    st.builds(lambda body, fields: post(body, *fields), _BODY, _FIELDS),
    st.builds(_chunked, st.lists(_BODY.filter(lambda chunk: len(chunk) > 1), max_size=4), _FIELDS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_REQUEST, min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=12))
def test_valid_requests_are_answered_alike_however_they_are_cut(requests: list[bytes], places: list[int]) -> None:
    """A sequence of valid requests has the same answers in one piece, in any pieces, byte by byte, and by any handler.

    Each comes twice, as the next one of a client library does: with the same head.
    """
    requests = [request for request in requests for _ in range(2)]
    stream = b"".join(requests)
    whole = _answers([stream])
    assert len(_statuses(whole)) == len(requests)
    assert _answers(cut(stream, places)) == whole
    assert _answers([stream[index : index + 1] for index in range(len(stream))]) == whole
    assert _answers(cut(stream, places), direct=True) == whole
    assert _answers(requests, direct=True) == whole


_SCRAPS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r",
        b"Content-Length: 5\r\n", b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n",
        b"0\r\n\r\n", b"ffffffff\r\n", b"Expect: 100-continue\r\n", b"Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00",
        b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b" folded\r\n", b"x" * 700, b": \r\n",
        b"OPTIONS * HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00", b"\xff",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(_SCRAPS, st.binary(max_size=60)), max_size=14).map(b"".join), st.lists(st.integers(0, 3000)))
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /", [3])
@example(b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", [1, 2, 3])
def test_garbage_is_refused_and_breaks_nothing(garbage: bytes, places: list[int]) -> None:
    """Whatever comes, every answer is a success, a call to go on or a 4xx, and nothing is answered after a refusal."""
    answers = _answers(cut(garbage, places))
    assert all(status in {100, 200} or 400 <= status < 500 for status in _statuses(answers))
    _, _, last = answers.partition(b"\r\nconnection: close\r\n")
    assert _statuses(last) == []


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 3000)))
def test_a_hang_up_at_any_point_leaves_nothing_behind(tail: bytes, places: list[int]) -> None:
    """A connection that is lost between any two pieces is forgotten whole."""

    async def run() -> None:
        async def handler(_: Request) -> Response:
            await asyncio.sleep(30)
            return Response(200)

        edge = Edge(
            handler=handler,
            limits=_SMALL,
            clock=FixedClock(),
            decorate=lambda _, response: response,
            loop=asyncio.get_running_loop(),
            pool=_POOL,
        )
        for lost_after in range(4):
            connection = Connection(edge)
            transport = FakeTransport(connection)
            connection.connection_made(transport)
            for piece in cut(post(b"{}") + tail, places)[:lost_after]:
                connection.data_received(piece)
                await asyncio.sleep(0)
            transport.close()
            await asyncio.sleep(0)
            assert (edge.in_flight, edge.held_bytes, edge.connections) == (0, 0, set())

    asyncio.run(run())
