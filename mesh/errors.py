"""The refusals that the mechanism itself raises, and the base of all others.

A refusal is an exception with a `reason`; `mesh.status` says how each reason looks on the wire. Services add subclasses
for reasons of their own.
"""

from typing import ClassVar

from clew.errors.v1.errors_pb2 import ErrorReason


class ClewError(Exception):
    """A refusal with a reason that callers can act on.

    Args:
        detail: What is wrong and what to do, for people. It leaves the process: no personal data, no secrets, no
            internals.
        metadata: Facts for programs, as text, under the keys that the contract documents for the reason. They leave the
            process too.
    """

    reason: ClassVar[ErrorReason.ValueType] = ErrorReason.ERROR_REASON_INTERNAL

    _by_reason: ClassVar[dict[ErrorReason.ValueType, type["ClewError"]]] = {}

    def __init__(self, detail: str = "", **metadata: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.metadata = metadata

    def __init_subclass__(cls) -> None:
        """Make the class known by its reason, so that what is read from the wire has it; the first one stays."""
        super().__init_subclass__()
        if "reason" in cls.__dict__:
            ClewError._by_reason.setdefault(cls.reason, cls)

    def __str__(self) -> str:
        name = ErrorReason.Name(self.reason)
        return f"{name}: {self.detail}" if self.detail else name

    @staticmethod
    def of(reason: ErrorReason.ValueType, detail: str, metadata: dict[str, str]) -> "ClewError":
        """Build the error for a reason: of its own class where this process knows one, of a plain one otherwise."""
        known = ClewError._by_reason.get(reason)
        error = ClewError.__new__(known if known is not None else _unnamed(reason))
        # Subclasses may take other arguments; what was read from the wire is already in the form that they would
        # produce.
        ClewError.__init__(error, detail, **metadata)
        return error


def _unnamed(reason: ErrorReason.ValueType) -> type[ClewError]:
    """A class for a reason that no module of this process raises, kept for the next time."""
    return type(
        "RemoteError", (ClewError,), {"reason": reason, "__doc__": "A refusal that only other processes raise."}
    )


class InvalidArgument(ClewError):
    """The request breaks a constraint of the contract. Metadata: `field`, `rule`."""

    reason = ErrorReason.ERROR_REASON_INVALID_ARGUMENT


class MissingCredentials(ClewError):
    """No credential came with the request."""

    reason = ErrorReason.ERROR_REASON_MISSING_CREDENTIALS


class InvalidToken(ClewError):
    """The bearer token is malformed, expired, of a wrong issuer or audience, or its signature does not hold."""

    reason = ErrorReason.ERROR_REASON_INVALID_TOKEN


class InsufficientScope(ClewError):
    """The token is valid and does not carry the scope that the call needs.

    Args:
        scope: The scope that is missing.
    """

    reason = ErrorReason.ERROR_REASON_INSUFFICIENT_SCOPE

    def __init__(self, scope: str) -> None:
        super().__init__("the token lacks a scope that the call needs", scope=scope)


class Overloaded(ClewError):
    """Too much is in flight.

    Args:
        detail: What is full.
        retry_after_seconds: When to send again, 1 to 300 seconds.
    """

    reason = ErrorReason.ERROR_REASON_OVERLOADED

    def __init__(self, detail: str = "", *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, retry_after_seconds=str(retry_after_seconds))


class Draining(ClewError):
    """The process is draining before it stops; another one will take the call."""

    reason = ErrorReason.ERROR_REASON_DRAINING


class UpstreamUnavailable(ClewError):
    """A service that this one calls is unreachable or not serving.

    Args:
        service: Its name.
        detail: What is known about the cause.
    """

    reason = ErrorReason.ERROR_REASON_UPSTREAM_UNAVAILABLE

    def __init__(self, service: str, detail: str = "") -> None:
        super().__init__(detail, service=service)


class BusUnavailable(ClewError):
    """Kafka did not acknowledge in time, or its queue is full: nothing was acknowledged."""

    reason = ErrorReason.ERROR_REASON_BUS_UNAVAILABLE


class StorageUnavailable(ClewError):
    """The store could not be read or written."""

    reason = ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE


class DeadlineExceeded(ClewError):
    """The time that the caller gave has passed."""

    reason = ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED


class Cancelled(ClewError):
    """The caller went away."""

    reason = ErrorReason.ERROR_REASON_CANCELLED


class Unimplemented(ClewError):
    """The rpc is not offered by this server. Metadata: `method`."""

    reason = ErrorReason.ERROR_REASON_UNIMPLEMENTED


class Internal(ClewError):
    """A fault of our own; the trace id leads to its cause."""

    reason = ErrorReason.ERROR_REASON_INTERNAL
