"""Refusals that only the edge raises. The status of each stands in `mesh/status.py`."""

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh.errors import ClewError


class UnknownWriteKey(ClewError):
    """Raised when the write key belongs to no source."""

    reason = ErrorReason.ERROR_REASON_UNKNOWN_WRITE_KEY
