"""The target of a request line (RFC 9112, section 3.2) to a path and a query."""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gateway.http.errors import MalformedHttp

_ESCAPES = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_ABSOLUTE = re.compile(rb"https?://[^/?]+", re.IGNORECASE)


# Nearly all requests are for one of a few targets.
@lru_cache(maxsize=256)
def split_target(method: str, target: bytes) -> tuple[str, str, str]:
    """The path, percent-decoded once, the query as it was sent, and the path as it was sent.

    Origin form (`/path?query`), absolute form (`http://host/path`, whose authority is ignored: one name serves all)
    and, for OPTIONS, `*`.

    Raises:
        MalformedHttp: Any other form, a fragment, a broken escape, or a path that is no UTF-8 or has controls.
    """
    if target == b"*" and method == "OPTIONS":
        return "*", "", "*"
    if not target.startswith(b"/"):
        target = _origin_form(target)
    if b"#" in target:
        raise MalformedHttp("the target has a fragment")
    path, _, query = target.partition(b"?")
    raw = _text(path)
    return (_decode(path) if b"%" in path else raw), _text(query), raw


def _origin_form(target: bytes) -> bytes:
    authority = _ABSOLUTE.match(target)
    if authority is None:
        raise MalformedHttp("the target is neither a path nor an http URL")
    rest = target[authority.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _decode(path: bytes) -> str:
    if not _ESCAPES.fullmatch(path):
        raise MalformedHttp("the path has a broken percent escape")
    try:
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedHttp("the path is not UTF-8") from None
    if any(char < " " or char == "\x7f" for char in text):
        raise MalformedHttp("the path has control characters")
    return text


def _text(part: bytes) -> str:
    try:
        return part.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedHttp("the target is not ASCII") from None
