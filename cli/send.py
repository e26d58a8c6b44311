"""`clew send`: one event from flags, or events from a file, to the HTTP edge, with the verdicts that came back."""

import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from cli.endpoints import Endpoints, NotRunning
from mesh.ids import new_id

_TIMEOUT_SECONDS = 15


class BadEvent(Exception):
    """Raised when flags or file hold no event; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One event from flags. `properties` is JSON text of an object; for identify and group calls it goes as traits."""

    type: str
    event: str = ""
    user: str = ""
    anonymous: str = ""
    properties: str = ""

    def payload(self) -> dict[str, Any]:
        """The event as the wire wants it.

        Raises:
            BadEvent: The properties are no JSON object.
        """
        event: dict[str, Any] = {"type": self.type, "messageId": new_id()}
        if self.user:
            event["userId"] = self.user
        if self.anonymous or not self.user:
            event["anonymousId"] = self.anonymous or new_id()
        if self.event:
            event[{"track": "event", "group": "groupId", "alias": "previousId"}.get(self.type, "name")] = self.event
        if self.properties:
            key = "traits" if self.type in {"identify", "group"} else "properties"
            event[key] = _object(self.properties)
        return event


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"--properties is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadEvent('--properties must be a JSON object, like \'{"plan": "pro"}\'')
    return value


class RefusedRequest(Exception):
    """Raised when the edge refuses a request as a whole.

    Args:
        problem: What it answers (RFC 9457).
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        said = problem.get("detail") or problem.get("title") or "the edge does not say why"
        more = [problem.get("code", ""), f"trace {problem['trace_id']}" if problem.get("trace_id") else ""]
        known = ", ".join(str(part) for part in more if part)
        super().__init__(f"{said} ({known})" if known else str(said))
        self.problem = problem


def read_file(path: Path) -> bytes:
    """The body for a file that holds one event, a list of events, a batch, or one event a line (`-`: standard input).

    Raises:
        BadEvent: The file cannot be read, is empty, or has a line that is no JSON among events that stand one a line.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadEvent(f"{name} cannot be read: {error}") from error
    # Not splitlines(): JSON text may hold other line separators.
    lines = [(number, row) for number, row in enumerate(text.split("\n"), 1) if row.strip()]
    if not lines:
        raise BadEvent(f"{name} is empty: it must hold an event, a batch, or an event a line")
    if len(lines) == 1:
        return text.encode()
    bad = {number: problem for number, row in lines if (problem := _not_json(row))}
    if not bad:
        return ('{"batch":[' + ",".join(row for _, row in lines) + "]}").encode()
    if any(number not in bad and row.lstrip().startswith("{") for number, row in lines[:2]) and _not_json(text):
        number, problem = next(iter(bad.items()))
        raise BadEvent(f"{name}, line {number} is no JSON: {problem}")
    # JSON over several lines, or what the edge knows better to refuse.
    return text.encode()


def _not_json(text: str) -> str:
    """What is wrong with it; empty for JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def send(data_dir: Path, body: bytes, *, write_key: str, token: str) -> int:
    """Send the body and print the verdicts, or say why it was refused.

    Exit status 0 when every event was accepted or filtered, 1 otherwise.
    """
    try:
        endpoints = Endpoints.read(data_dir)
        answer = post(endpoints, body, write_key=write_key or endpoints.write_key, token=token)
    except (NotRunning, RefusedRequest) as error:
        # Loaded when it is needed: it loads Kafka's client.
        from cli.records import printable  # noqa: PLC0415

        sys.stderr.write(f"clew send: {printable(str(error))}\n")
        return 1
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    return 0 if answer.get("success") and not answer.get("rejected") else 1


def post(endpoints: Endpoints, body: bytes, *, write_key: str, token: str = "") -> dict[str, Any]:
    """Send a body to the batch route.

    Raises:
        NotRunning: The edge cannot be reached.
        RefusedRequest: It takes none of it.
    """
    headers = {"Content-Type": "application/json", "X-Write-Key": write_key}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"{endpoints.http}/v1/batch", body, headers)  # noqa: S310 - our own edge
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise RefusedRequest(_problem(error, endpoints.http)) from error
    except (OSError, HTTPException) as error:
        raise NotRunning(f"{endpoints.http} does not answer{_why(error)}; is `clew up` still running?") from error
    except ValueError as error:
        raise NotRunning(f"{endpoints.http} cannot be asked, or does not answer as clew does: {error}") from error
    return answer


def _why(error: Exception) -> str:
    """In brackets, where more is known."""
    cause = getattr(error, "reason", error)
    words = getattr(cause, "strerror", None) or str(cause)
    return f" ({words})" if words else ""


def _problem(refusal: urllib.error.HTTPError, url: str) -> dict[str, Any]:
    try:
        problem: dict[str, Any] = json.load(refusal)
    except (ValueError, OSError, HTTPException) as error:
        raise NotRunning(f"{url} answers {refusal.code}, and not as clew does: is it another server?") from error
    if not isinstance(problem, dict):
        raise NotRunning(f"{url} answers {refusal.code}, and not as clew does: is it another server?")
    return problem
