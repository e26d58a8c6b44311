"""Page tokens of a person's history: opaque outside, and refused for any other history than the one they were made for.

A token guards against mistakes, not against attackers: it grants nothing that its request does not name anyway.
"""

import base64
import hashlib
import struct

from consent_svc.errors import PageTokenRefused

# Signed, since an epoch is a number that the ledger can hold.
_LAYOUT = struct.Struct(">Bq8s")
_VERSION = 1


def page_token(workspace: str, subject: str, before_epoch: int) -> str:
    """Return the token of the page that continues below an epoch; 23 characters."""
    check = _check(workspace, subject, before_epoch)
    return base64.urlsafe_b64encode(_LAYOUT.pack(_VERSION, before_epoch, check)).decode().rstrip("=")


def before_epoch_of(token: str, workspace: str, subject: str) -> int | None:
    """Return the epoch that a page continues below; None for an empty token, which asks for the first page.

    Raises:
        PageTokenRefused: the token was not issued for this history, or was altered.
    """
    if not token:
        return None
    epoch = _epoch_in(token)
    # Compared whole, since base64 has several spellings of the same bytes.
    if token != page_token(workspace, subject, epoch):
        raise PageTokenRefused("was not issued for this history", field="page_token", rule="page_token")
    return epoch


def _epoch_in(token: str) -> int:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        _version, epoch, _check_bytes = _LAYOUT.unpack(raw)
    except (ValueError, struct.error) as error:
        raise PageTokenRefused("is no page token", field="page_token", rule="page_token") from error
    return int(epoch)


def _check(workspace: str, subject: str, epoch: int) -> bytes:
    # Lengths stand in front, so that no two pairs of names give the same bytes.
    text = f"{len(workspace)}:{workspace}{len(subject)}:{subject}{epoch}".encode()
    return hashlib.blake2b(text, digest_size=8, person=b"consent-page").digest()
