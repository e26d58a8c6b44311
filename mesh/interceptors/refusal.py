"""What a failed call is answered with, whether it came alone or on a stream."""

import traceback
from typing import Final

import grpc
import structlog

from mesh import status
from mesh.errors import ClewError, Internal
from mesh.interceptors.observation import Observation

REASON_ATTRIBUTE: Final = "clew.error.reason"

# A failed call to another service may be passed on under these; any other is our own mistake, not the caller's.
_TRANSIENT: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)

_log = structlog.get_logger()


def refusal_of(error: BaseException, observation: Observation, method: str) -> tuple[ClewError, str | None]:
    """The refusal for what was raised, and what to say of it on the span.

    A fault of our own is logged with its traceback: its text may hold anything, so it goes to the log and nowhere else.
    """
    match error:
        case ClewError():
            return error, None
        case grpc.aio.AioRpcError() if error.code() in _TRANSIENT:
            return status.error_from_rpc(error, "upstream"), None
    name = type(error).__qualname__
    _log.error("unexpected_error", method=method, error=name, exc_info=error)
    stack = "".join(traceback.format_tb(error.__traceback__))
    observation.span.add_event("exception", {"exception.type": name, "exception.stacktrace": stack})
    return Internal(), name
