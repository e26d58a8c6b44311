"""The refusal of a whole request, and the refusal of one event inside the decode stage."""

from clew.errors.v1.errors_pb2 import ErrorReason
from clew.event.v1.failed_event_pb2 import FailureReason
from mesh.errors import ClewError


class UnreadableBody(ClewError):
    """Raised when no envelope can be read, so that no event of the body can be told from another."""

    reason = ErrorReason.ERROR_REASON_UNREADABLE_BODY


class Rejection(Exception):
    """Raised inside the decode stage when one event cannot be accepted; it becomes a `RejectedEvent`.

    Args:
        reason: The typed reason.
        detail: What is wrong and what to do. It names the field and never repeats its value.
    """

    def __init__(self, reason: FailureReason.ValueType, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
