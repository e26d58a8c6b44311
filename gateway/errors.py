"""Refusals that only the edge raises. The status of each stands in `mesh/status.py`."""

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh.errors import ClewError


class UnknownWriteKey(ClewError):
    """Raised when the write key belongs to no source, holds no longer, or its source is disabled."""

    reason = ErrorReason.ERROR_REASON_UNKNOWN_WRITE_KEY


class RateLimited(ClewError):
    """Raised when a source sends more than its rate, or has more in flight than its share; others are not affected.

    Metadata: `scope` (`rate` or `share`), `retry_after_seconds`, and for a rate the values of the two header fields,
    `ratelimit` and `ratelimit_policy`.
    """

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED


class OriginNotAllowed(ClewError):
    """Raised when a page of an origin that the source does not allow sends with its key.

    Args:
        origin: What the browser said, at most 256 characters of it.
    """

    reason = ErrorReason.ERROR_REASON_ORIGIN_NOT_ALLOWED

    def __init__(self, origin: str) -> None:
        super().__init__(
            "the source does not take events from pages of this origin; add the origin to the source's allowed origins",
            origin=origin[:256],
        )


class SourceNotFound(ClewError):
    """Raised when the workspace has no source of that name."""

    reason = ErrorReason.ERROR_REASON_SOURCE_NOT_FOUND


class SourceExists(ClewError):
    """Raised when the workspace has a source of that name already."""

    reason = ErrorReason.ERROR_REASON_SOURCE_EXISTS


class SourceReadOnly(ClewError):
    """Raised when the source to change stands in the sources file."""

    reason = ErrorReason.ERROR_REASON_SOURCE_READ_ONLY


class WriteKeyNotFound(ClewError):
    """Raised when the source has no write key of that id."""

    reason = ErrorReason.ERROR_REASON_WRITE_KEY_NOT_FOUND


class WriteKeyNotActive(ClewError):
    """Raised when a key is to be rotated that holds no longer."""

    reason = ErrorReason.ERROR_REASON_WRITE_KEY_NOT_ACTIVE


class TooManyWriteKeys(ClewError):
    """Raised when a source has as many write keys that hold as it may have.

    Args:
        limit: How many that is.
    """

    reason = ErrorReason.ERROR_REASON_TOO_MANY_WRITE_KEYS

    def __init__(self, limit: int) -> None:
        super().__init__(
            "the source has as many write keys that hold as it may have; revoke one first", limit=str(limit)
        )
