"""The outside of a token: strict reading of the JWS compact form (RFC 7515), before any key is touched.

Libraries are lenient where a proxy or a second service may read the same token differently: padded or non-canonical
base64url, duplicate JSON names, unknown critical headers. Here each token has exactly one spelling and one meaning.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

import jiter

from mesh.errors import InvalidToken

MAX_TOKEN_BYTES: Final = 8192

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_SEGMENTS: Final = 3
# Each changes how the rest is to be read, and none is offered: RFC 7515 `crit`, RFC 7797 `b64`, RFC 7516 `zip`, `enc`.
_REFUSED_HEADERS: Final = ("crit", "b64", "zip", "enc")
_MEDIA_TYPE_PREFIX: Final = "application/"


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says about itself. Nothing of it is true before its signature is verified.

    Args:
        algorithm: The header's `alg`.
        key_id: The header's `kid`, if there is one.
        type: The header's `typ` in lower case, without `application/` (RFC 7515 section 4.1.9); empty when absent.
        payload: The claims.
    """

    algorithm: str
    key_id: str | None
    type: str
    payload: dict[str, Any]


def read_token(token: str) -> UnverifiedToken:
    """Read a token's header and claims.

    Raises:
        InvalidToken: It is larger than 8 KiB, has not three canonical base64url segments of which the first two are
            JSON objects with unique names, or its header asks for what is not offered. The detail never holds a part
            of the token.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise InvalidToken(f"token is larger than {MAX_TOKEN_BYTES} bytes or not ASCII")
    segments = token.split(".")
    if len(segments) != _SEGMENTS:
        raise InvalidToken("token has not three segments")
    header_bytes, payload_bytes, _signature = (_decode_segment(segment) for segment in segments)
    header = _read_object(header_bytes, "header")
    _refuse_extensions(header)
    return UnverifiedToken(
        algorithm=_text(header, "alg") or "",
        key_id=_text(header, "kid"),
        type=(_text(header, "typ") or "").lower().removeprefix(_MEDIA_TYPE_PREFIX),
        payload=_read_object(payload_bytes, "payload"),
    )


def encode_segment(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode_segment(segment: str) -> bytes:
    if not _BASE64URL.fullmatch(segment):
        raise InvalidToken("token has a segment that is empty or not base64url")
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise InvalidToken("token has a segment that is not base64url") from None
    # The last character may hold bits that decoding drops: two spellings of one token, and a way around deny lists.
    if encode_segment(data) != segment:
        raise InvalidToken("token has a segment that is not canonical base64url")
    return data


def _read_object(data: bytes, where: str) -> dict[str, Any]:
    # Two readers may take different ones of two equal names, so there may not be two. jiter bounds the nesting, at 200.
    try:
        value = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        raise InvalidToken(f"token {where} is not JSON, or not with unique names and whole characters") from None
    if not isinstance(value, dict):
        raise InvalidToken(f"token {where} is not a JSON object")
    return value


def _refuse_extensions(header: dict[str, Any]) -> None:
    for name in _REFUSED_HEADERS:
        if name in header:
            raise InvalidToken(f"token header has {name}, which is not supported")


def _text(header: dict[str, Any], name: str) -> str | None:
    value = header.get(name)
    if name in header and (not isinstance(value, str) or not value):
        raise InvalidToken(f"token header {name} is not text")
    return value
