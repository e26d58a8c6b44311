"""The HTTP edge as a program without an SDK sees it: the standard library's client, nothing helpful in between."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `headers` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, read as a JSON object."""
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def verdicts(self) -> list[str]:
        """What became of each event, in order."""
        return [event["verdict"] for event in self.json["events"]]


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the edge is, and a key that it knows."""

    url: str
    write_key: str

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A GET."""
        return self.send("GET", path, b"", headers or {})

    def post(self, *events: Mapping[str, Any], headers: Mapping[str, str] | None = None, key: str = "") -> Answer:
        """A batch of events."""
        return self.post_raw(json.dumps({"batch": events}).encode(), headers=headers, key=key)

    def post_raw(
        self, body: bytes, *, path: str = "/v1/batch", headers: Mapping[str, str] | None = None, key: str = ""
    ) -> Answer:
        """A body as it is, with the source's write key."""
        own = {"Content-Type": "application/json", "X-Write-Key": key or self.write_key}
        return self.send("POST", path, body, {**own, **(headers or {})})
