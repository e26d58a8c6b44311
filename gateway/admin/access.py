"""Who may administer: the bearer of a token with a scope for it. A write key opens nothing here."""

from collections.abc import Iterable
from typing import Any, Final

from gateway.admission import Admission
from gateway.credentials import read_credentials
from mesh.jwt import Claims

ADMIN: Final = "clew.admin"
SOURCES_READ: Final = "clew.sources.read"
SOURCES_WRITE: Final = "clew.sources.write"
DEBUG_READ: Final = "clew.debug.read"
FAILED_WRITE: Final = "clew.failed.write"

READERS: Final = (SOURCES_READ, SOURCES_WRITE, ADMIN)
"""Any of these scopes lets read sources."""
WRITERS: Final = (SOURCES_WRITE, ADMIN)
"""Any of these scopes lets change them."""
WATCHERS: Final = (DEBUG_READ, ADMIN)
"""Any of these scopes lets watch events."""
REDRIVERS: Final = (FAILED_WRITE, ADMIN)
"""Any of these scopes lets send failed events again."""


async def authorize(
    admission: Admission, metadata: Iterable[tuple[str, Any]] | None, scopes: tuple[str, ...]
) -> Claims:
    """Return the claims of the call's bearer token, which has one of the scopes.

    Raises:
        MissingCredentials: There is no bearer token in the metadata `authorization`.
        InvalidToken: It does not hold.
        InsufficientScope: It holds, and has none of the scopes, or its issuer may name no administrators.
    """
    values = {key: value for key, value in metadata or () if isinstance(value, str)}
    return await admission.administrator(read_credentials(values.get("authorization"), None), *scopes)
