"""The one table from reasons to statuses, and the two forms that a refusal takes on the wire.

Inside it is a `google.rpc.Status` with exactly one `ErrorInfo`; outside an RFC 9457 problem. The HTTP column holds only
what the clients in the field handle well: a 4xx makes them drop the events, 5xx and Retry-After make them send again;
some give up on 501, 504 and 505, and some read any other 2xx as a failure. So whatever is transient is a 503.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh.errors import Cancelled, ClewError, DeadlineExceeded, Internal, Overloaded, UpstreamUnavailable

DOMAIN: Final = "clew.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
MAX_RETRY_AFTER_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Mapping:
    """How one reason looks on the wire; `retry_after` is the delay in seconds before a retry, None when none helps."""

    code: grpc.StatusCode
    http: int
    title: str
    retry_after: int | None = None


_CODE = grpc.StatusCode
_R = ErrorReason

TABLE: Final = MappingProxyType(
    {
        _R.ERROR_REASON_UNSPECIFIED: Mapping(_CODE.INTERNAL, 500, "Internal error"),
        _R.ERROR_REASON_INVALID_ARGUMENT: Mapping(_CODE.INVALID_ARGUMENT, 400, "Request breaks the contract"),
        _R.ERROR_REASON_UNREADABLE_BODY: Mapping(_CODE.INVALID_ARGUMENT, 400, "Body cannot be read"),
        _R.ERROR_REASON_BODY_TOO_LARGE: Mapping(_CODE.INVALID_ARGUMENT, 413, "Body is too large"),
        _R.ERROR_REASON_MALFORMED_HTTP: Mapping(_CODE.INVALID_ARGUMENT, 400, "Malformed HTTP"),
        _R.ERROR_REASON_REQUEST_TIMEOUT: Mapping(_CODE.DEADLINE_EXCEEDED, 408, "Request did not arrive in time"),
        _R.ERROR_REASON_MISSING_CREDENTIALS: Mapping(_CODE.UNAUTHENTICATED, 401, "Credentials are missing"),
        _R.ERROR_REASON_UNKNOWN_WRITE_KEY: Mapping(_CODE.UNAUTHENTICATED, 401, "Unknown write key"),
        _R.ERROR_REASON_INVALID_TOKEN: Mapping(_CODE.UNAUTHENTICATED, 401, "Invalid token"),
        _R.ERROR_REASON_INSUFFICIENT_SCOPE: Mapping(_CODE.PERMISSION_DENIED, 403, "Scope is missing"),
        _R.ERROR_REASON_INVALID_CLIENT: Mapping(_CODE.UNAUTHENTICATED, 401, "Invalid client credentials"),
        _R.ERROR_REASON_ROUTE_NOT_FOUND: Mapping(_CODE.NOT_FOUND, 404, "No such route"),
        _R.ERROR_REASON_METHOD_NOT_ALLOWED: Mapping(_CODE.UNIMPLEMENTED, 405, "Method is not allowed"),
        _R.ERROR_REASON_PROFILE_NOT_FOUND: Mapping(_CODE.NOT_FOUND, 404, "No such profile"),
        _R.ERROR_REASON_SCHEMA_NOT_FOUND: Mapping(_CODE.NOT_FOUND, 404, "No such schema"),
        _R.ERROR_REASON_BUS_UNAVAILABLE: Mapping(_CODE.UNAVAILABLE, 503, "Kafka is unavailable", 2),
        _R.ERROR_REASON_UPSTREAM_UNAVAILABLE: Mapping(_CODE.UNAVAILABLE, 503, "A service is unavailable", 1),
        # Not 429, which says that the one who asks sends too much: this is what nobody alone is to blame for.
        _R.ERROR_REASON_OVERLOADED: Mapping(_CODE.RESOURCE_EXHAUSTED, 503, "Too much is in flight", 1),
        # Client libraries send a 429 again, unlike nearly all other 4xx.
        _R.ERROR_REASON_RATE_LIMITED: Mapping(_CODE.RESOURCE_EXHAUSTED, 429, "The source sends too much", 1),
        _R.ERROR_REASON_DEADLINE_EXCEEDED: Mapping(_CODE.DEADLINE_EXCEEDED, 503, "Deadline exceeded", 1),
        _R.ERROR_REASON_CANCELLED: Mapping(_CODE.CANCELLED, 503, "The caller went away", 1),
        _R.ERROR_REASON_STORAGE_UNAVAILABLE: Mapping(_CODE.UNAVAILABLE, 503, "Storage is unavailable", 2),
        _R.ERROR_REASON_DRAINING: Mapping(_CODE.UNAVAILABLE, 503, "The process is stopping", 1),
        _R.ERROR_REASON_INTERNAL: Mapping(_CODE.INTERNAL, 500, "Internal error"),
        _R.ERROR_REASON_UNSUPPORTED_ENCODING: Mapping(_CODE.INVALID_ARGUMENT, 415, "Unsupported content encoding"),
        _R.ERROR_REASON_UNIMPLEMENTED: Mapping(_CODE.UNIMPLEMENTED, 404, "Not implemented"),
        _R.ERROR_REASON_SOURCE_NOT_FOUND: Mapping(_CODE.NOT_FOUND, 404, "No such source"),
        _R.ERROR_REASON_SOURCE_EXISTS: Mapping(_CODE.ALREADY_EXISTS, 409, "The source exists"),
        _R.ERROR_REASON_SOURCE_READ_ONLY: Mapping(_CODE.FAILED_PRECONDITION, 409, "The source is read-only"),
        _R.ERROR_REASON_WRITE_KEY_NOT_FOUND: Mapping(_CODE.NOT_FOUND, 404, "No such write key"),
        _R.ERROR_REASON_WRITE_KEY_NOT_ACTIVE: Mapping(_CODE.FAILED_PRECONDITION, 409, "The write key holds no longer"),
        _R.ERROR_REASON_TOO_MANY_WRITE_KEYS: Mapping(_CODE.FAILED_PRECONDITION, 409, "Too many write keys"),
        _R.ERROR_REASON_ORIGIN_NOT_ALLOWED: Mapping(_CODE.PERMISSION_DENIED, 403, "Origin is not allowed"),
    }
)


def grpc_status(error: ClewError) -> grpc.StatusCode:
    """The canonical status of the error."""
    return TABLE[error.reason].code


def http_status(error: ClewError) -> int:
    """The HTTP status of the error."""
    return TABLE[error.reason].http


def retry_after(error: ClewError) -> int | None:
    """Whole seconds after which sending again may help, 1 to 300; None when it does not help."""
    default = TABLE[error.reason].retry_after
    asked = error.metadata.get("retry_after_seconds", "")
    seconds = int(asked) if asked.isascii() and asked.isdigit() else default
    return None if seconds is None else min(max(seconds, 1), MAX_RETRY_AFTER_SECONDS)


def rpc_status(error: ClewError) -> status_pb2.Status:
    """The error as a `google.rpc.Status` with exactly one `ErrorInfo`; the detail travels in its metadata."""
    mapping = TABLE[error.reason]
    metadata = dict(error.metadata)
    if error.detail:
        metadata["detail"] = error.detail
    info = error_details_pb2.ErrorInfo(reason=ErrorReason.Name(error.reason), domain=DOMAIN, metadata=metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    return status_pb2.Status(code=mapping.code.value[0], message=error.detail or mapping.title, details=[packed])


def error_from_rpc(rpc_error: grpc.aio.AioRpcError, service: str) -> ClewError:
    """Read the refusal back from a failed call.

    Args:
        rpc_error: What the call raised.
        service: Name of the service that was called; it names the culprit when the failure carries no `ErrorInfo` of
            ours.
    """
    info = _error_info(rpc_error)
    if info is not None and info.reason in ErrorReason.keys():  # noqa: SIM118 - an enum wrapper, not a dict
        metadata = dict(info.metadata)
        return ClewError.of(ErrorReason.Value(info.reason), metadata.pop("detail", ""), metadata)
    return error_from_code(rpc_error.code(), service)


def _error_info(rpc_error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """Our own `ErrorInfo` among the details of a failed call; None when there is none, or none that can be read."""
    for key, value in rpc_error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return _unpack(value)
    return None


def _unpack(serialized: bytes) -> error_details_pb2.ErrorInfo | None:
    info = error_details_pb2.ErrorInfo()
    try:
        details = status_pb2.Status.FromString(serialized).details
        return info if any(detail.Unpack(info) and info.domain == DOMAIN for detail in details) else None
    except Exception:  # noqa: BLE001 - what another party sent must not replace the failure that it came with
        return None


def error_from_code(code: grpc.StatusCode, service: str) -> ClewError:
    """What a bare status means: the transport, not the service, ended the call."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return UpstreamUnavailable(service)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(service=service)
        case grpc.StatusCode.CANCELLED:
            return Cancelled(service=service)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(f"{service} takes no more calls")
        case _:
            return Internal(service=service, status=code.name)


def problem(error: ClewError, trace_id: str) -> dict[str, object]:
    """The error as an RFC 9457 problem.

    `code` and `message` repeat the reason and the detail under the names that client libraries look for. The metadata
    follow as extension members; none of them replaces a standard one.
    """
    mapping = TABLE[error.reason]
    code = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    detail = error.detail or mapping.title
    return {
        **error.metadata,
        "type": f"https://{DOMAIN}/errors/{code}",
        "title": mapping.title,
        "status": mapping.http,
        "detail": detail,
        "code": code,
        "message": detail,
        "trace_id": trace_id,
    }
