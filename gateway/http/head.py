"""The head of a request: from bytes in any segmentation to a checked value.

httptools (llhttp in its strict mode) decides the grammar. What it leaves open is decided here: where the head ends, the
limits, exactly one Host, and one unambiguous framing of the body, because a request that two servers read
differently is how requests are smuggled (RFC 9112, section 11.2).
"""

import re
from functools import lru_cache

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

from gateway.http.errors import MalformedHttp
from gateway.http.limits import HttpLimits
from gateway.http.message import Headers
from gateway.http.target import split_target

_END = b"\r\n\r\n"
_BLANK_LINES = re.compile(rb"(?:\r\n)+")
_MINOR_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
MOST_LENGTH_DIGITS = 15
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
# Fields that steer framing, routing or credentials: two of one name is an attack or a fault, never a client of ours.
_SINGLETONS = (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"authorization", b"expect")

CHUNKED = -1
"""The `length` of a body that comes in chunks."""


class Head(Struct, eq=False):
    """A request line and headers that hold, and what they say about the connection and the body."""

    method: str
    path: str
    query: str
    headers: Headers
    length: int
    """Bytes of the body, or `CHUNKED`."""
    keep_alive: bool
    http_1_0: bool
    expects_continue: bool
    raw_path: str


class HeadReader:
    """Reads one head. Bytes are judged as they come, so that garbage is refused at once and not at the time limit."""

    __slots__ = ("_complete", "_fields", "_limits", "_parser", "_target", "raw", "rest", "started")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        # A parser for each message: nothing of one can colour the next. It costs 0.4 us.
        self._parser = HttpRequestParser(self)
        self.raw = b""
        """The head's own bytes so far."""
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._complete = False
        self.started = False
        self.rest = b""
        """What followed the head in the last piece."""

    def feed(self, data: bytes) -> Head | None:
        """Take the next piece; the head once its last byte is there.

        Raises:
            MalformedHttp: The bytes break HTTP or a limit.
        """
        if not self.started:
            data = self._skip_blank_lines(data)
            if not self.started:
                return None
        before = len(self.raw)
        raw = self.raw + data if before else data
        end = raw.find(_END, max(0, before - len(_END) + 1)) + len(_END)
        found = end >= len(_END)
        self._check_size(end if found else len(raw))
        self.raw = raw[:end] if found else raw
        self._parse(self.raw[before:] if before else self.raw)
        if self._complete is not found:
            raise MalformedHttp("line endings in the head are not all CRLF")
        if not found:
            return None
        self.rest = raw[end:]
        return self._head()

    def on_url(self, url: bytes) -> None:
        """Called by the parser, possibly in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each field that is complete."""
        self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Called by the parser when it has seen the empty line."""
        self._complete = True

    def _skip_blank_lines(self, data: bytes) -> bytes:
        """RFC 9112, section 2.2: empty lines before a request are ignored, for clients that end a body with one."""
        if not self.raw and not data.startswith(b"\r"):
            self.started = bool(data)
            return data
        data = self.raw + data
        blank = _BLANK_LINES.match(data)
        data = data[blank.end() :] if blank else data
        if data == b"\r":
            self.raw = data
            return b""
        self.raw = b""
        self.started = bool(data)
        return data

    def _check_size(self, size: int) -> None:
        if size > self._limits.header_bytes:
            raise MalformedHttp("the head is too large", limit_bytes=str(self._limits.header_bytes))

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            # An offer that a server may ignore: the request is answered as it stands.
            pass
        except HttpParserError as error:
            raise MalformedHttp(_sentence(error)) from None
        # Not in the callback, which is the hottest place of the edge: the bytes already bound what can pile up.
        if len(self._fields) > self._limits.header_count:
            raise MalformedHttp("too many header fields", limit_fields=str(self._limits.header_count))

    def _head(self) -> Head:
        line_end = self.raw.find(b"\r\n")
        minor = _MINOR_VERSIONS.get(self.raw[line_end - 8 : line_end])
        if minor is None:
            raise MalformedHttp("the version is neither HTTP/1.1 nor HTTP/1.0")
        headers = Headers(self._fields)
        if headers.repeats():
            _refuse_repeated(self._fields)
        _check_host(headers, required=minor == 1)
        method = self._parser.get_method().decode("ascii")
        path, query, raw_path = split_target(method, self._target)
        length = _body_length(headers, minor)
        keep_alive = _keep_alive(headers.get_raw(b"connection"), minor)
        expects = minor == 1 and _expects(headers)
        return Head(method, path, query, headers, length, keep_alive, minor == 0, expects, raw_path)


def _sentence(error: HttpParserError) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]


def _refuse_repeated(fields: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in fields]
    for name in _SINGLETONS:
        if names.count(name) > 1:
            raise MalformedHttp(f"{name.decode('ascii')} stands more than once")


def _check_host(headers: Headers, *, required: bool) -> None:
    host = headers.get_raw(b"host")
    if host is None:
        if required:
            raise MalformedHttp("host is missing")
    elif not _is_host(host):
        raise MalformedHttp("host is malformed")


# The hosts, and the Connection fields below, of one deployment are few: a look-up is four times as fast as a match.
@lru_cache(maxsize=256)
def _is_host(host: bytes) -> bool:
    return _HOST.fullmatch(host) is not None


def _body_length(headers: Headers, minor: int) -> int:
    """RFC 9112, section 6.3, without its lenient arms: whatever is ambiguous is refused."""
    coding = headers.get_raw(b"transfer-encoding")
    length = headers.get_raw(b"content-length")
    if coding is None:
        if length is None:
            return 0
        if not length.isdigit() or len(length) > MOST_LENGTH_DIGITS:
            raise MalformedHttp("content-length is not a number")
        return int(length)
    if length is not None:
        raise MalformedHttp("content-length beside transfer-encoding")
    if minor == 0:
        raise MalformedHttp("transfer-encoding in HTTP/1.0")
    if coding.lower() != b"chunked":
        raise MalformedHttp("transfer-encoding is not chunked")
    return CHUNKED


@lru_cache(maxsize=64)
def _keep_alive(options: bytes | None, minor: int) -> bool:
    if options is None:
        return minor == 1
    tokens = [token.strip() for token in options.lower().split(b",")]
    return b"close" not in tokens and (minor == 1 or b"keep-alive" in tokens)


def _expects(headers: Headers) -> bool:
    expectation = headers.get_raw(b"expect")
    return expectation is not None and expectation.lower() == b"100-continue"
