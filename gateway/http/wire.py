"""A response as bytes."""

import re
from functools import lru_cache
from http import HTTPStatus

from gateway.http.message import Pair, Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Visible Latin-1, spaces and tabs: a line break would start a field, or a response, of somebody else's making.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def render(response: Response, *, date: bytes, connection: bytes, head_only: bool = False) -> bytes:
    """The bytes of a response.

    Args:
        response: What the handler answered.
        date: The value of the Date field.
        connection: The value of the Connection field; empty to leave it out.
        head_only: Leave the body out, as for HEAD, though its length is told.

    Raises:
        ValueError: A header field is malformed.
    """
    body = response.body
    parts = [_start(response.status, response.content_type), date]
    if response.status not in _BODILESS:
        parts.append(b"\r\ncontent-length: %d" % len(body))
    elif body:
        raise ValueError("this status has no body")
    if connection:
        parts.append(b"\r\nconnection: " + connection)
    if response.headers:
        parts.extend(map(_field, response.headers))
    parts.append(b"\r\n\r\n")
    if not head_only:
        parts.append(body)
    return b"".join(parts)


def render_stream_head(response: Response, *, date: bytes, connection: bytes, chunked: bool) -> bytes:
    """The bytes of a response up to its body, which follows in chunks or up to the connection's end.

    Raises:
        ValueError: A header field is malformed.
    """
    parts = [_start(response.status, response.content_type), date]
    if chunked:
        parts.append(b"\r\ntransfer-encoding: chunked")
    if connection:
        parts.append(b"\r\nconnection: " + connection)
    parts.extend(map(_field, response.headers))
    parts.append(b"\r\n\r\n")
    return b"".join(parts)


@lru_cache(maxsize=256)
def _start(status: int, content_type: str) -> bytes:
    """All that is the same for every response of one kind, up to the date."""
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    kind = "" if status in _BODILESS else _field(("content-type", content_type)).decode("latin-1")
    # A body of ours is what its type says: no browser shall guess.
    return f"{line}{kind}\r\nx-content-type-options: nosniff\r\ndate: ".encode("latin-1")


@lru_cache(maxsize=1024)
def _field(pair: Pair) -> bytes:
    name, value = pair
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"malformed header field {name!r}")
    return f"\r\n{name}: {value}".encode("latin-1")
