"""Refusals that only the edge raises. The status of each stands in `mesh/status.py`."""

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh.errors import ClewError


class UnknownWriteKey(ClewError):
    """Raised when the write key belongs to no source."""

    reason = ErrorReason.ERROR_REASON_UNKNOWN_WRITE_KEY


class RateLimited(ClewError):
    """Raised when a source sends more than its rate, or has more in flight than its share; others are not affected.

    Metadata: `scope` (`rate` or `share`), `retry_after_seconds`, and for a rate the values of the two header fields,
    `ratelimit` and `ratelimit_policy`.
    """

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED
