"""Refusals and their forms on the wire."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status as grpc_rpc_status

from clew.errors.v1.errors_pb2 import ErrorReason
from mesh import errors, status

# 409 is for the rpcs that administer sources; no request for events is answered with it.
EDGE_STATUSES = {400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 431, 500, 503}


def _wire(error: errors.ClewError) -> grpc.aio.AioRpcError:
    """The failure that a client sees when a server answers with this error."""
    sent = grpc_rpc_status.to_status(status.rpc_status(error))
    trailers = grpc.aio.Metadata(*sent.trailing_metadata)
    return grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), trailers, details=sent.details)


def _bare(code: grpc.StatusCode, trailers: grpc.aio.Metadata | None = None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), trailers or grpc.aio.Metadata(), details="from the transport"
    )


@pytest.mark.parametrize("reason", ErrorReason.values(), ids=ErrorReason.keys())
def test_each_reason_has_a_status(reason: ErrorReason.ValueType) -> None:
    """The table names every reason; the HTTP status is one that clients in the field handle, never OK."""
    mapping = status.TABLE[reason]
    assert mapping.code is not grpc.StatusCode.OK
    assert mapping.http in EDGE_STATUSES
    assert mapping.title


@pytest.mark.parametrize("reason", ErrorReason.values(), ids=ErrorReason.keys())
def test_what_is_transient_is_503_or_429_with_a_delay(reason: ErrorReason.ValueType) -> None:
    """A retry is suggested exactly where it can help, and there the status is one that every client retries."""
    mapping = status.TABLE[reason]
    assert (mapping.retry_after is not None) == (mapping.http in {429, 503})


@pytest.mark.parametrize("reason", ErrorReason.values(), ids=ErrorReason.keys())
def test_reasons_survive_the_wire(reason: ErrorReason.ValueType) -> None:
    """Reason, detail and metadata are read back as they were raised."""
    sent = errors.ClewError.of(reason, "what is wrong", {"field": "items[3]"})
    back = status.error_from_rpc(_wire(sent), "identity")
    assert (back.reason, back.detail, back.metadata) == (reason, "what is wrong", {"field": "items[3]"})


def test_one_error_info() -> None:
    """A refusal carries exactly one ErrorInfo, of our domain; its reason is the enum's name; the detail is metadata."""
    rich = status.rpc_status(errors.InvalidArgument("too long", field="workspace", rule="string.max_len"))
    assert len(rich.details) == 1
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("ERROR_REASON_INVALID_ARGUMENT", "clew.dev")
    assert dict(info.metadata) == {"field": "workspace", "rule": "string.max_len", "detail": "too long"}
    assert (rich.code, rich.message) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "too long")


def test_known_reasons_come_back_as_their_class() -> None:
    """An error that was read from the wire can be caught by its class, whatever arguments that class takes."""
    error = status.error_from_rpc(_wire(errors.Overloaded("queue is full", retry_after_seconds=7)), "enrich")
    assert isinstance(error, errors.Overloaded)
    assert status.retry_after(error) == 7


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.UpstreamUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, errors.Cancelled),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Internal),
    ],
)
def test_bare_statuses(code: grpc.StatusCode, expected: type[errors.ClewError]) -> None:
    """A failure without an ErrorInfo comes from the transport; its text is not passed on."""
    error = status.error_from_rpc(_bare(code), "identity")
    assert type(error) is expected
    assert "from the transport" not in str(error)


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xff",
        status_pb2.Status(code=14).SerializeToString(),
        status.rpc_status(errors.Draining()).SerializeToString().replace(b"clew.dev", b"else.dev"),
        status.rpc_status(errors.Draining()).SerializeToString().replace(b"DRAINING", b"DRAIN_NG"),
    ],
    ids=["garbage", "no details", "foreign domain", "unknown reason"],
)
def test_foreign_details_are_ignored(value: bytes) -> None:
    """Details that are not ours, or cannot be read, leave the bare status."""
    trailers = grpc.aio.Metadata((status.DETAILS_KEY, value))
    error = status.error_from_rpc(_bare(grpc.StatusCode.UNAVAILABLE, trailers), "identity")
    assert isinstance(error, errors.UpstreamUnavailable)
    assert error.metadata == {"service": "identity"}


def test_problem() -> None:
    """Outside a refusal is an RFC 9457 problem that also says code and message, as client libraries expect."""
    error = errors.InvalidToken("token has expired")
    assert status.problem(error, "4bf92f35") == {
        "type": "https://clew.dev/errors/INVALID_TOKEN",
        "title": "Invalid token",
        "status": 401,
        "detail": "token has expired",
        "code": "INVALID_TOKEN",
        "message": "token has expired",
        "trace_id": "4bf92f35",
    }


def test_metadata_never_replaces_a_standard_member() -> None:
    """Metadata become members of the problem, but none that has a meaning of its own."""
    body = status.problem(errors.UpstreamUnavailable("identity"), "t")
    assert body["service"] == "identity"
    assert status.problem(errors.ClewError("x", status="200", code="OK"), "t")["status"] == 500


@pytest.mark.parametrize(
    ("asked", "expected"), [("7", 7), ("0", 1), ("9000", 300), ("-5", 1), ("soon", 1), ("", 1), ("²", 1)]
)
def test_retry_after_is_bounded(asked: str, expected: int) -> None:
    """The delay is a whole number from 1 to 300; what is no number falls back to the table's."""
    assert (
        status.retry_after(errors.ClewError.of(errors.Overloaded.reason, "", {"retry_after_seconds": asked}))
        == expected
    )


def test_no_retry_where_it_does_not_help() -> None:
    """A request that is wrong stays wrong."""
    assert status.retry_after(errors.InvalidArgument("no")) is None


def test_errors_read_well() -> None:
    """The text of an error is its reason and detail, for logs."""
    assert str(errors.Draining()) == "ERROR_REASON_DRAINING"
    assert str(errors.InsufficientScope("clew.admin")).startswith("ERROR_REASON_INSUFFICIENT_SCOPE: ")
