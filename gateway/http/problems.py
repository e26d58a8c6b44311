"""Refusals as RFC 9457 problems, with the header fields that go with each."""

import secrets

import structlog

from gateway.http.message import PROBLEM_JSON, Pair, Request, Response, json_response
from mesh.errors import ClewError, Internal
from mesh.status import http_status, problem, retry_after

_log = structlog.get_logger()
_UNAUTHORIZED = 401
# Metadata of a refusal that are header fields as well.
_NAMED = (("allow", "allow"), ("ratelimit", "ratelimit"), ("ratelimit_policy", "ratelimit-policy"))


def problem_response(error: ClewError, trace_id: str) -> Response:
    """The response for a refusal."""
    status = http_status(error)
    return json_response(status, problem(error, trace_id), content_type=PROBLEM_JSON, headers=_fields(error, status))


def refusal(error: BaseException, request: Request) -> Response:
    """The response for whatever a handler raised. What is no refusal is logged; the client learns nothing of it."""
    trace_id = request.trace_id or new_trace_id()
    if isinstance(error, ClewError):
        return problem_response(error, trace_id)
    _log.error("the handler failed", trace_id=trace_id, method=request.method, path=request.path, exc_info=error)
    return problem_response(Internal(), trace_id)


def new_trace_id() -> str:
    """A trace id for what was refused before a trace began: it joins the problem and the log line."""
    return secrets.token_hex(16)


def _fields(error: ClewError, status: int) -> tuple[Pair, ...]:
    fields: list[Pair] = []
    delay = retry_after(error)
    if delay is not None:
        fields.append(("retry-after", str(delay)))
    fields.extend((name, error.metadata[key]) for key, name in _NAMED if key in error.metadata)
    if status == _UNAUTHORIZED:
        # RFC 9110 asks for a challenge; Bearer is the one that makes no browser open a dialog.
        fields.append(("www-authenticate", "Bearer"))
    return tuple(fields)
