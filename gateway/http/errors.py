"""Refusals of the HTTP edge itself. The status of each stands in `mesh/status.py`."""

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh.errors import ClewError


class MalformedHttp(ClewError):
    """Raised when a head or the framing of a body breaks HTTP or a limit; the connection is closed."""

    reason = ErrorReason.ERROR_REASON_MALFORMED_HTTP


class BodyTooLarge(ClewError):
    """Raised when a body, as sent or once inflated, is larger than the limit, or inflates too steeply."""

    reason = ErrorReason.ERROR_REASON_BODY_TOO_LARGE


class RequestTimeout(ClewError):
    """Raised when a head or a body does not arrive in time; the connection is closed."""

    reason = ErrorReason.ERROR_REASON_REQUEST_TIMEOUT


class UnreadableBody(ClewError):
    """Raised when a compressed body is damaged or cut off."""

    reason = ErrorReason.ERROR_REASON_UNREADABLE_BODY


class UnsupportedEncoding(ClewError):
    """Raised when a body comes in a content encoding other than gzip, deflate or identity, or in several."""

    reason = ErrorReason.ERROR_REASON_UNSUPPORTED_ENCODING


class RouteNotFound(ClewError):
    """Raised when no route has the path."""

    reason = ErrorReason.ERROR_REASON_ROUTE_NOT_FOUND


class MethodNotAllowed(ClewError):
    """Raised when the path has routes, none of them for the method; the metadata `allow` names those that it has."""

    reason = ErrorReason.ERROR_REASON_METHOD_NOT_ALLOWED
