"""What the identity service refuses, for reasons of its own."""

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh.errors import ClewError


class ProfileNotFound(ClewError):
    """Raised by GetProfile when no profile of the workspace has the id or identifier."""

    reason = ErrorReason.ERROR_REASON_PROFILE_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("no profile has this id or identifier")


class InvalidClient(ClewError):
    """Raised by IssueToken when the client is unknown or its secret is wrong; it never says which of the two."""

    reason = ErrorReason.ERROR_REASON_INVALID_CLIENT

    def __init__(self) -> None:
        super().__init__("the client id and secret match no registered client")


class ScopeNotGranted(ClewError):
    """Raised by IssueToken when a known client asks for what it may not have.

    Args:
        scope: The scope that the client would need.
    """

    reason = ErrorReason.ERROR_REASON_INSUFFICIENT_SCOPE

    def __init__(self, scope: str) -> None:
        super().__init__("the client was not given a scope that this needs", scope=scope)
