"""What is fuzzed: functions of bytes that raise when something is wrong. Atheris drives them, and so do plain tests.

Each says in its docstring what must hold for any bytes whatever.
"""

import asyncio
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from clew.event.v1.context_pb2 import Context
from clew.event.v1.event_pb2 import EVENT_TYPE_TRACK
from gateway.decode import UnreadableBody, decode_request
from gateway.http.connection import Connection
from gateway.http.edge import Edge
from gateway.http.errors import BodyTooLarge, MalformedHttp
from gateway.http.errors import UnreadableBody as Damaged
from gateway.http.head import HeadReader
from gateway.http.inflate import inflate as inflate_body
from gateway.http.limits import HttpLimits
from gateway.http.message import Headers
from mesh.clock import FixedClock
from tests.gateway.http.raw import FakeTransport, cut
from tests.gateway.whole import KEY, Whole

Target = Callable[[bytes], None]

NOW: Final = 1_795_446_670_000_000_000
LIMITS: Final = HttpLimits(header_bytes=4000, inflated_bytes=200_000, inflation_free_bytes=50_000)
GOOD: Final = b'{"type":"track","event":"Seen","userId":"u1","messageId":"m-good"}'
BODIES: Final = Path(__file__).parents[1] / "gateway" / "decode" / "bodies"
_WBITS: Final = (31, 15, -15)
# An answer begins the stream or follows another's body, which is JSON or empty.
_FAILED: Final = re.compile(rb"(?:^|\}|\r\n\r\n)HTTP/1\.1 5")
_KEPT: Final = re.compile(rb'"messageId":"m-good","verdict":"(?:accepted|duplicate)"')
_MOST_USES: Final = 500
_loop = asyncio.new_event_loop()
_pool = ThreadPoolExecutor(1)
_gateways: list[Whole] = []
_uses = itertools.count()


def decode(data: bytes) -> None:
    """A body is unreadable as a whole, or each of its events is accepted or refused, once, and can be written."""
    route = EVENT_TYPE_TRACK if data[:1] < b"\x80" else None
    try:
        request = decode_request(data[1:], route, NOW)
    except UnreadableBody:
        return
    places = [event.index for event in request.events] + [refused.index for refused in request.rejected]
    assert sorted(places) == list(range(request.count))
    for event in request.events:
        Context.FromString(event.context.serialized)
        for text in (event.properties_json, event.traits_json, event.integrations_json, event.extra_json):
            assert not text or type(json.loads(text)) is dict


def neighbour(data: bytes) -> None:
    """A good event at the beginning of a batch is accepted whatever stands behind it, unless the batch has no end."""
    try:
        request = decode_request(b'{"batch":[%b,%b]}' % (GOOD, data), None, NOW)
    except UnreadableBody:
        return
    assert request.events
    assert request.events[0].message_id == "m-good"


def head(data: bytes) -> None:
    """A head is read or refused, alike however it is cut; what was read has one host and one framing of its body."""
    places, text = list(data[:4]), data[4:]
    whole = _read([text])
    assert _read(cut(text, [place * 16 + 1 for place in places])) == whole
    if isinstance(whole, tuple):
        headers = Headers(list(whole[3]))
        for name in ("host", "content-length", "transfer-encoding"):
            assert len(headers.get_all(name)) <= 1
        assert "content-length" not in headers or "transfer-encoding" not in headers


def _read(pieces: list[bytes]) -> object:
    """All that a reader makes of the pieces, or the word for its refusal or its waiting."""
    reader, consumed = HeadReader(LIMITS), 0
    try:
        for number, piece in enumerate(pieces):
            consumed += len(piece)
            found = reader.feed(piece)
            if found is not None:
                rest = reader.rest + b"".join(pieces[number + 1 :])
                return found.method, found.path, found.query, tuple(found.headers.raw), found.length, rest
    except MalformedHttp:
        return "refused"
    return "waits"


def inflate(data: bytes) -> None:
    """What comes out is what zlib says, or a refusal; never more than the limit."""
    wbits, body = _WBITS[data[0] % 3] if data else 31, data[1:]
    try:
        found = _loop.run_until_complete(inflate_body(body, wbits, LIMITS, _pool))
    except (BodyTooLarge, Damaged):
        return
    assert len(found) <= LIMITS.inflated_bytes
    assert found.startswith(zlib.decompressobj(wbits).decompress(body, LIMITS.inflated_bytes))


def edge(data: bytes) -> None:
    """Whatever a client sends to the whole gateway, no answer is a 5xx, and a good request after it is accepted."""
    places, text = list(data[:3]), data[3:]
    _loop.run_until_complete(_converse(cut(text, [place * 8 for place in places])))


def _whole() -> Whole:
    """A gateway, made anew now and then: its bus keeps what was published."""
    if next(_uses) % _MOST_USES == 0:
        _gateways[:] = [Whole()]
    return _gateways[0]


async def _converse(pieces: list[bytes]) -> None:
    whole = _whole()
    shared = Edge(
        handler=whole.router.handle,
        limits=LIMITS,
        clock=FixedClock(),
        decorate=lambda _, response: response,
        loop=asyncio.get_running_loop(),
        pool=_pool,
    )
    good = b"POST /v1/b HTTP/1.1\r\nHost: a\r\nX-Write-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
    for sent in (pieces, [good % (KEY.encode(), len(GOOD), GOOD)]):
        connection = Connection(shared)
        transport = FakeTransport(connection)
        connection.connection_made(transport)
        for piece in sent:
            connection.data_received(piece)
            await asyncio.sleep(0)
        await _settled(shared)
        answers = bytes(transport.written)
        assert not _FAILED.search(answers)
        transport.close()
        await asyncio.sleep(0)
    # From the second conversation on it is on the topic already.
    assert _KEPT.search(answers)
    assert (shared.held_bytes, shared.in_flight) == (0, 0)


async def _settled(shared: Edge) -> None:
    """Every request has its answer; those whose bodies are inflated in a thread take real time."""
    async with asyncio.timeout(10):
        while shared.in_flight:  # noqa: ASYNC110 - the server's count is all there is
            await asyncio.sleep(0)


def body(data: bytes) -> None:
    """Whatever body comes with a good key, on whatever path, the answer is no 5xx: the services take what is sent."""
    path = (b"/v1/b", b"/v1/t", b"/v1/i", b"/v1/a", b"/v1/g", b"/v1/p")[data[0] % 6 if data else 0]
    text = data[1:]
    fields = b"Host: a\r\nX-Write-Key: k1\r\nX-Forwarded-For: %b" % bytes(b for b in data[:60] if 32 < b < 127)
    request = b"POST %b HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (path, fields, len(text), text)
    _loop.run_until_complete(_converse([request]))


TARGETS: Final[dict[str, Target]] = {
    "decode": decode, "neighbour": neighbour, "head": head, "inflate": inflate, "body": body, "edge": edge,
}  # fmt: skip


def seeds(target: str) -> Iterator[bytes]:
    """Inputs to begin with: what real clients send, in the form that the target takes."""
    bodies = [path.read_bytes() for path in sorted(BODIES.iterdir())]
    requests = [
        b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nX-Write-Key: k1\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
        for text in bodies
    ]
    chunked = b"POST /v1/t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}  \r\n0\r\nx: y\r\n\r\n"
    packed = [zlib.compressobj(wbits=wbits) for wbits in _WBITS]
    match target:
        case "inflate":
            for number, stream in enumerate(packed):
                yield bytes([number]) + stream.compress(bodies[0]) + stream.flush()
        case "head" | "edge":
            yield from (b"\x03\x20\x40\x60" + request[:3900] for request in [*requests, chunked])
        case "neighbour":
            yield from (GOOD, GOOD[:-1], b"]", b'{"a":[1,2]}', *bodies)
        case _:
            yield from (first + text for text in bodies for first in (b"\x00", b"\xff"))
