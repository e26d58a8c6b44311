"""Page tokens of the administration's lists: where the next page begins, opaque outside.

A token guards against mistakes, not against attackers: it grants nothing that its request does not name anyway.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from mesh.errors import InvalidArgument

DEFAULT_PAGE_SIZE: Final = 100
_CHECK_BYTES: Final = 6
T = TypeVar("T")


def page_of(
    items: Sequence[T], key: Callable[[T], str], what: str, page_size: int, page_token: str
) -> tuple[list[T], str]:
    """A page of items in the order of their keys, and the token of the next; empty: it is the last.

    Items that come and go between two pages make no other item missing or double.

    Raises:
        InvalidArgument: The token was not issued for this list.
    """
    after = position_of(page_token, what)
    rest = sorted((item for item in items if key(item) > after), key=key)
    size = page_size or DEFAULT_PAGE_SIZE
    page = rest[:size]
    return page, page_token_of(key(page[-1]), what) if len(rest) > size else ""


def page_token_of(position: str, what: str) -> str:
    """The token of the page that begins behind a position of a list; `what` names the list."""
    text = position.encode()
    return base64.urlsafe_b64encode(_check(text, what) + text).decode().rstrip("=")


def position_of(token: str, what: str) -> str:
    """The position behind which a page begins; empty for an empty token, which asks for the first.

    Raises:
        InvalidArgument: The token was not issued for this list.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position = raw[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise _refusal() from error
    # Compared whole, since base64 has several spellings of the same bytes.
    if token != page_token_of(position, what):
        raise _refusal()
    return position


def _check(position: bytes, what: str) -> bytes:
    return hashlib.blake2b(what.encode() + b"\0" + position, digest_size=_CHECK_BYTES, person=b"admin-page").digest()


def _refusal() -> InvalidArgument:
    return InvalidArgument("was not issued for this list", field="page_token", rule="page_token")
