"""What a sender shows at the edge, whichever way its client library can show it."""

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

AUTHORIZATION: Final = "authorization"
"""The header, and the key of call metadata, of a Basic write key or a bearer token."""
WRITE_KEY: Final = "x-write-key"
"""The same for a write key by itself."""

_LONGEST_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Credentials:
    """A write key and a bearer token; each may be empty."""

    write_key: str = ""
    bearer: str = ""

    def or_write_key(self, write_key: str) -> "Credentials":
        """The same, with the write key of the request's body where no header gave one."""
        return self if self.write_key or not write_key else Credentials(write_key, self.bearer)


def read_credentials(authorization: str | None, write_key_header: str | None) -> Credentials:
    """Read the `Authorization` and `X-Write-Key` headers (or the metadata of those names).

    Basic carries the write key as its user name (RFC 7617; the SDKs send an empty password). What is malformed counts
    as absent.
    """
    # Write keys are few and no secrets: what was read once is remembered. Tokens are never kept.
    basic = authorization is None or authorization.startswith("Basic ")
    if basic and len(authorization or "") + len(write_key_header or "") <= _LONGEST_REMEMBERED:
        return _remembered(authorization, write_key_header)
    return _read(authorization, write_key_header)


def _read(authorization: str | None, write_key_header: str | None) -> Credentials:
    scheme, _, value = (authorization or "").strip().partition(" ")
    write_key = (write_key_header or "").strip()
    match scheme.lower():
        case "basic":
            return Credentials(_basic_user(value) or write_key)
        case "bearer":
            return Credentials(write_key, value.strip())
        case _:
            return Credentials(write_key)


_remembered = lru_cache(maxsize=1024)(_read)


def _basic_user(encoded: str) -> str:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return text.partition(":")[0]
