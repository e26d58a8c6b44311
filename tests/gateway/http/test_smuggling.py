"""Requests that two servers could read differently are refused, and what they carry never reaches a handler."""

import pytest

from gateway.http.message import Request, Response
from tests.gateway.http.raw import serve

_HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
_CHUNKS = b"0\r\n\r\n"


def _request(*fields: bytes, line: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


SHAPES = {
    "length beside chunks": _request(b"Content-Length: 5", b"Transfer-Encoding: chunked") + _CHUNKS,
    "chunks beside length": _request(b"Transfer-Encoding: chunked", b"Content-Length: 5") + _CHUNKS,
    "two lengths that differ": _request(b"Content-Length: 5", b"Content-Length: 0") + b"12345",
    "two lengths that agree": _request(b"Content-Length: 0", b"Content-Length: 0"),
    "lengths in a list": _request(b"Content-Length: 0, 0"),
    "a length with a sign": _request(b"Content-Length: +0"),
    "a length in hexadecimal": _request(b"Content-Length: 0x0"),
    "a length with an underscore": _request(b"Content-Length: 1_0") + b"0123456789",
    "an empty length": _request(b"Content-Length:"),
    "a huge length": _request(b"Content-Length: 18446744073709551616"),
    "a coding after chunked": _request(b"Transfer-Encoding: chunked, identity") + _CHUNKS,
    "a coding before chunked": _request(b"Transfer-Encoding: gzip, chunked") + _CHUNKS,
    "an unknown coding": _request(b"Transfer-Encoding: xchunked") + _CHUNKS,
    "two codings": _request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + _CHUNKS,
    "a coding after a vertical tab": _request(b"Transfer-Encoding: \x0bchunked") + _CHUNKS,
    "a space before the colon": _request(b"Transfer-Encoding : chunked") + _CHUNKS,
    "a folded field": _request(b"Transfer-Encoding:\r\n chunked") + _CHUNKS,
    "a folded value": _request(b"X: a", b" b"),
    "a field before the first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "chunks in HTTP/1.0": _request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + _CHUNKS,
    "no host": _request(host=b""),
    "two hosts": _request(b"Host: b"),
    "a host that is a path": _request(host=b"Host: a/b\r\n"),
    "a bare line feed": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare line feed in a value": _request(b"X: a\nContent-Length: 99"),
    "a bare carriage return": _request(b"X: a\rContent-Length: 99"),
    "a NUL in a value": _request(b"X: a\x00b"),
    "no colon": _request(b"Content-Length 5"),
    "an empty name": _request(b": x"),
    "a version to come": _request(line=b"GET / HTTP/2.0"),
    "no version": b"GET /\r\n\r\n",
    "a space in the target": _request(line=b"GET /a /b HTTP/1.1"),
    "a fragment": _request(line=b"GET /a#b HTTP/1.1"),
    "a target without a slash": _request(line=b"GET a HTTP/1.1"),
    "another scheme": _request(line=b"GET ftp://a/ HTTP/1.1"),
    "a tunnel": _request(line=b"CONNECT a:443 HTTP/1.1"),
    "an asterisk with POST": _request(line=b"POST * HTTP/1.1"),
    "a broken escape": _request(line=b"GET /%zz HTTP/1.1"),
    "an escape that is no text": _request(line=b"GET /%ff HTTP/1.1"),
    "an escaped line break": _request(line=b"GET /a%0d%0ab HTTP/1.1"),
    "an unknown method": _request(line=b"GETT / HTTP/1.1"),
    "a method in lower case": _request(line=b"get / HTTP/1.1"),
    "the start of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

CHUNKED = _request(b"Transfer-Encoding: chunked")
CHUNK_SHAPES = {
    "a chunk longer than its size": CHUNKED + b"1\r\nabc\r\n" + _CHUNKS,
    "a size with a prefix": CHUNKED + b"0x1\r\na\r\n" + _CHUNKS,
    "a size with a sign": CHUNKED + b"+1\r\na\r\n" + _CHUNKS,
    "a size with an underscore": CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n" + _CHUNKS,
    "a size after a space": CHUNKED + b" 1\r\na\r\n" + _CHUNKS,
    "a size of many digits": CHUNKED + b"000000001\r\na\r\n" + _CHUNKS,
    "no size": CHUNKED + b"\r\na\r\n" + _CHUNKS,
    "a size that ends in a line feed": CHUNKED + b"1\na\r\n" + _CHUNKS,
    "data that ends in a line feed": CHUNKED + b"1\r\na\n" + _CHUNKS,
    "a carriage return in an extension": CHUNKED + b"1;a\rb\r\na\r\n" + _CHUNKS,
    "a space without an extension": CHUNKED + b"1 \r\na\r\n" + _CHUNKS,
    "a trailer that is no field": CHUNKED + b"0\r\nGET /hidden HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("shape", [*SHAPES.values(), *CHUNK_SHAPES.values()], ids=[*SHAPES, *CHUNK_SHAPES])
async def test_an_ambiguous_request_is_refused(shape: bytes) -> None:
    """The answer is one 400 problem; the connection closes, and what stands behind it is not taken for a request."""
    seen: list[str] = []

    async def handler(request: Request) -> Response:
        seen.append(request.path)
        return Response(200)

    async with serve(handler) as site, site.client() as client:
        reply = await client.ask(shape + _HIDDEN)
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert reply.json["code"] == "MALFORMED_HTTP"
        assert await client.rest() == b""
    assert seen == []


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET http://b.example/x?y HTTP/1.1", "/x"),
        (b"GET HTTP://b.example?y HTTP/1.1", "/"),
        (b"OPTIONS * HTTP/1.1", "*"),
        (b"GET //x HTTP/1.1", "//x"),
        (b"GET /a%2Fb%2525 HTTP/1.1", "/a/b%25"),
    ],
)
async def test_every_proper_form_of_a_target_is_read(line: bytes, path: str) -> None:
    """Origin, absolute and asterisk form are read; escapes are decoded once."""
    async with serve() as site, site.client() as client:
        assert (await client.ask(_request(line=line))).json["path"] == path


@pytest.mark.parametrize("host", [b"", b"a.example", b"a:80", b"127.0.0.1:", b"[::1]:8080"])
async def test_every_proper_host_is_taken(host: bytes) -> None:
    """A host is a name or an address, with or without a port; an empty one is legal too."""
    async with serve() as site, site.client() as client:
        assert (await client.ask(_request(host=b"Host: " + host + b"\r\n"))).status == 200
