"""Compressed bodies: recognised by their bytes, inflated within bounds, off the loop when large."""

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from gateway.http.inflate import inflate
from gateway.http.limits import KIB, MIB, HttpLimits
from gateway.http.message import Request, Response, json_response
from tests.gateway.http.raw import Reply, post, serve

_TEXT = b'{"batch":[' + b'{"type":"track","event":"Order Completed"},' * 50 + b"0]}"

_BOMB = gzip.compress(bytes(100 * MIB), 9)


def _raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


async def _measure(request: Request) -> Response:
    """Answers with the body's length and checksum, so that large ones need not travel back."""
    return json_response(200, {"length": len(request.body), "crc": zlib.crc32(request.body)})


async def _send(body: bytes, *fields: str, limits: HttpLimits | None = None) -> Reply:
    async with serve(_measure, limits) as site, site.client() as client:
        reply = await client.ask(post(body, *fields))
        # Whatever the body was, its framing held, so the connection is good for another request.
        assert (await client.ask(post(b""))).json["length"] == 0
        return reply


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(_TEXT), "gzip"),
        (gzip.compress(_TEXT), "X-GZIP"),
        (gzip.compress(_TEXT), "identity, gzip"),
        (gzip.compress(_TEXT), None),
        (gzip.compress(_TEXT), "identity"),
        (gzip.compress(_TEXT), "deflate"),
        (gzip.compress(_TEXT[:99]) + gzip.compress(_TEXT[99:]), "gzip"),
        (zlib.compress(_TEXT), "deflate"),
        (_raw_deflate(_TEXT), "deflate"),
        (_TEXT, "gzip"),
        (_TEXT, "identity"),
        (_TEXT, ""),
        (_TEXT, None),
    ],
    # Named by hand: a gzip header holds the time, and workers compare the names of what they collect.
    ids=[
        *("gzip", "X-GZIP", "gzip as identity, gzip", "gzip as nothing", "gzip as identity", "gzip as deflate"),
        *("two members", "deflate", "raw deflate", "plain as gzip", "identity", "plain as empty", "plain"),
    ],
)
async def test_the_bytes_decide(body: bytes, encoding: str | None) -> None:
    """Gzip is inflated under any label or none, deflate in both its forms, and what is not compressed stays."""
    fields = [] if encoding is None else [f"Content-Encoding: {encoding}"]
    reply = await _send(body, "Content-Type: application/x-www-form-urlencoded", *fields)
    assert reply.json == {"length": len(_TEXT), "crc": zlib.crc32(_TEXT)}


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip, gzip", "deflate,gzip", "compress"])
async def test_other_encodings_are_refused(encoding: str) -> None:
    """An encoding that is not read, or several of them, is a 415 that says what to send."""
    reply = await _send(_TEXT, f"Content-Encoding: {encoding}")
    assert (reply.status, reply.json["code"]) == (415, "UNSUPPORTED_ENCODING")
    assert reply.json["encoding"] == encoding


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (gzip.compress(_TEXT)[:-9], "the compressed body ends early"),
        (b"\x1f\x8b", "the compressed body ends early"),
        (b"\x1f\x8b" + b"not gzip at all", "the compressed body is damaged"),
        (gzip.compress(_TEXT)[:-6] + b"\0" * 6, "the compressed body is damaged"),
        (gzip.compress(_TEXT) + b"more", "bytes follow the compressed body"),
        (gzip.compress(b"") * 17, "the compressed body has too many members"),
    ],
    ids=["cut", "only magic", "no gzip", "wrong checksum", "trailing bytes", "many members"],
)
async def test_a_damaged_body_is_unreadable(body: bytes, detail: str) -> None:
    """What does not inflate to its end is a 400 that says why."""
    reply = await _send(body)
    assert (reply.status, reply.json["code"], reply.json["detail"]) == (400, "UNREADABLE_BODY", detail)


async def test_the_inflated_size_is_bounded() -> None:
    """A body of exactly the limit passes and one byte more does not, in a thread as on the loop."""
    noise = random.Random(1).randbytes(2 * MIB)
    for limit in (1000, 2 * MIB):
        limits = HttpLimits(inflated_bytes=limit)
        assert (await _send(gzip.compress(noise[:limit]), limits=limits)).json["length"] == limit
    for limit in (1000, 2 * MIB - 1):
        reply = await _send(gzip.compress(noise[: limit + 1]), limits=HttpLimits(inflated_bytes=limit))
        assert (reply.status, reply.json["limit_bytes"]) == (413, str(limit))


async def test_a_bomb_is_defused() -> None:
    """100 MB of zeros in 100 KB are refused as soon as they exceed the limit, and never held as a whole."""
    tracemalloc.start()
    reply = await _send(_BOMB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (reply.status, reply.json["limit_bytes"]) == (413, str(8 * MIB))
    assert peak < 40 * MIB


async def test_a_small_bomb_is_defused_by_its_ratio() -> None:
    """3 MB of zeros in 3 KB would fit the size, and no honest body inflates like that."""
    reply = await _send(gzip.compress(bytes(3 * MIB), 9))
    assert (reply.status, reply.json["code"], reply.json["limit_ratio"]) == (413, "BODY_TOO_LARGE", "500")


async def test_an_honest_repetitive_batch_passes() -> None:
    """2 MB of like events in 6.5 KB, as a real SDK sends them, is no bomb."""
    event = b'{"type":"track","event":"Order Completed","properties":{"total":9.99}},'
    batch = event * (2 * MIB // len(event))
    assert len(batch) / len(gzip.compress(batch)) > 250
    assert (await _send(gzip.compress(batch))).json["length"] == len(batch)


async def test_a_small_body_may_inflate_steeply() -> None:
    """The ratio is looked at only where it could hurt."""
    body = gzip.compress(b" " * 600_000)
    assert len(body) * 500 < 1_000_000
    assert (await _send(body)).json["length"] == 600_000


async def test_inflated_bytes_count_as_held() -> None:
    """What a body became counts against the bytes that all connections may hold, and is given back."""
    body = gzip.compress(b"x" * 50_000)
    limits = HttpLimits(held_bytes=40_000)
    reply = await _send(body, limits=limits)
    assert (reply.status, reply.json["code"]) == (503, "OVERLOADED")


class _CountingPool(ThreadPoolExecutor):
    """A pool that counts what it was given."""

    jobs = 0

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[Any]:
        """Count a job and run it."""
        self.jobs += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize(
    ("body", "jobs"),
    [
        (gzip.compress(_TEXT), 0),
        (gzip.compress(bytes(256 * KIB)), 0),
        (gzip.compress(bytes(256 * KIB + 2)), 1),
        (gzip.compress(random.Random(2).randbytes(80 * KIB)), 1),
    ],
    ids=["small", "just inline", "large inside", "large outside"],
)
async def test_a_large_body_does_not_hold_up_the_loop(body: bytes, jobs: int) -> None:
    """What is large, as sent or once inflated, is inflated in a thread; what is small is not worth one."""
    with _CountingPool(1) as pool:
        assert await inflate(body, 31, HttpLimits(), pool) == gzip.decompress(body)
        assert pool.jobs == jobs


async def test_an_empty_body_is_empty_under_any_label() -> None:
    """A GET with a stray Content-Encoding is not refused for a body that it does not have."""
    for encoding in ("gzip", "deflate", "br"):
        assert (await _send(b"", f"Content-Encoding: {encoding}")).json["length"] == 0
