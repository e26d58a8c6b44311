"""Refusals as RFC 9457 problems, with the header fields that go with each."""

import secrets

from gateway.http.message import PROBLEM_JSON, Pair, Response, json_response
from mesh.errors import ClewError
from mesh.status import http_status, problem, retry_after

_UNAUTHORIZED = 401
# Metadata of a refusal that are header fields as well.
_NAMED = (("allow", "allow"), ("ratelimit", "ratelimit"), ("ratelimit_policy", "ratelimit-policy"))


def problem_response(error: ClewError, trace_id: str) -> Response:
    """The response for a refusal."""
    status = http_status(error)
    return json_response(status, problem(error, trace_id), content_type=PROBLEM_JSON, headers=_fields(error, status))


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
