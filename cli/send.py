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


def read_file(path: Path) -> bytes:
    """The body for a file that holds one event, a list of events, a batch, or one event a line (`-`: standard input).

    Raises:
        BadEvent: The file cannot be read.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadEvent(f"{path} cannot be read: {error}") from error
    # Not splitlines(): JSON text may hold other line separators.
    lines = [row for row in text.split("\n") if row.strip()]
    if len(lines) > 1 and all(_is_json(row) for row in lines):
        return ('{"batch":[' + ",".join(lines) + "]}").encode()
    return text.encode()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def send(data_dir: Path, body: bytes, *, write_key: str, token: str) -> int:
    """Send the body and print the verdicts; exit status 0 when every event was accepted or filtered, 1 otherwise."""
    try:
        endpoints = Endpoints.read(data_dir)
        answer = post(endpoints, body, write_key=write_key or endpoints.write_key, token=token)
    except NotRunning as error:
        sys.stderr.write(f"clew send: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    return 0 if answer.get("success") and not answer.get("rejected") else 1


def post(endpoints: Endpoints, body: bytes, *, write_key: str, token: str = "") -> dict[str, Any]:
    """Send a body to the batch route.

    Raises:
        NotRunning: The edge cannot be reached.
    """
    headers = {"Content-Type": "application/json", "X-Write-Key": write_key}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"{endpoints.http}/v1/batch", body, headers)  # noqa: S310 - our own edge
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        answer = _problem(error, endpoints.http)
    except (OSError, HTTPException) as error:
        raise NotRunning(f"{endpoints.http} cannot be reached: {error}") from error
    except ValueError as error:
        raise NotRunning(f"{endpoints.http} cannot be asked, or does not answer as clew does: {error}") from error
    return answer


def _problem(refusal: urllib.error.HTTPError, url: str) -> dict[str, Any]:
    try:
        problem: dict[str, Any] = json.load(refusal)
    except ValueError as error:
        raise NotRunning(f"{url} answers {refusal.code}, and not as clew does: is it another server?") from error
    return problem
