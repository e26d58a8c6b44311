"""A Confluent-compatible registry that is not ours: asked and, at deploy only, written to.

Schemas go there as base64 of their serialized descriptors, which every such registry takes, and not as text: comments
may change without making another schema, and stock clients in Python and JavaScript ask for this form, which not every
registry can make of a text.
"""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote, urlsplit

from mesh.no_redirects import NoRedirects
from mesh.registry.table import VERSION_NOT_FOUND, Reference, RegisteredSchema
from mesh.settings import setting

CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND: Final = 404
_SECONDS: Final = 10.0
_DETAIL_BYTES: Final = 500
# A schema of ours takes up to 300 KB.
_MOST_BYTES: Final = 16 << 20


class OutsideRegistryError(Exception):
    """The registry did not answer, or refused; the message says what was asked and what it said."""


class OutsideRegistryUnreachable(OutsideRegistryError):
    """It did not answer, or had a fault of its own: it may answer later."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The registry that the schemas are registered with, where it is not the gateway's own."""

    url: str = setting(
        "CLEW_SCHEMA_REGISTRY",
        default="",
        help="URL of a Confluent-compatible registry that has the schemas (`clew schemas apply`); empty: the gateway's",
    )
    credentials: str = setting(
        "CLEW_SCHEMA_REGISTRY_AUTH", default="", secret=True, help="USER:PASSWORD for that registry, HTTP basic"
    )
    token: str = setting("CLEW_SCHEMA_REGISTRY_TOKEN", default="", secret=True, help="bearer token for that registry")

    def __post_init__(self) -> None:
        if self.url and (urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname):
            raise ValueError(f"CLEW_SCHEMA_REGISTRY: {self.url!r} is no address like https://registry.example")
        if urlsplit(self.url).username:
            raise ValueError("CLEW_SCHEMA_REGISTRY: put user and password into CLEW_SCHEMA_REGISTRY_AUTH")
        if self.credentials and ":" not in self.credentials:
            raise ValueError("CLEW_SCHEMA_REGISTRY_AUTH: its value is no USER:PASSWORD")

    @property
    def authorization(self) -> str:
        """The value of the header field; empty where nobody has to log in."""
        if self.token:
            return f"Bearer {self.token}"
        return "Basic " + base64.b64encode(self.credentials.encode()).decode() if self.credentials else ""


@dataclass(frozen=True, slots=True)
class Registered:
    """Where a schema is registered."""

    version: int
    id: int


class OutsideRegistry:
    """The registry's API, as far as deploying and starting need it; calls block.

    Only the configured address is asked: a redirect is refused, for it would take the credentials elsewhere.

    Args:
        settings: Where it is and how to log in.
        seconds: How long each request may take.
    """

    def __init__(self, settings: RegistrySettings, seconds: float = _SECONDS) -> None:
        self._url = settings.url.rstrip("/")
        self._seconds = seconds
        self._fields = {"Content-Type": CONTENT_TYPE, "Accept": f"{CONTENT_TYPE}, application/json"}
        if settings.authorization:
            self._fields["Authorization"] = settings.authorization

    def find(self, subject: str, schema: RegisteredSchema, references: Sequence[Reference]) -> Registered | None:
        """Where a subject has this very schema; None where it has not.

        Raises:
            OutsideRegistryError: It does not answer, or with something else.
        """
        answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}", _body(schema, references))
        if answer is None:
            return None
        return Registered(int(self._member(answer, "version")), int(self._member(answer, "id")))

    def newest(self, subject: str) -> str | None:
        """The newest schema of a subject, as a descriptor if the registry has that; None without a version.

        Raises:
            OutsideRegistryError: It does not answer, or with something else.
        """
        answer = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/latest?format=serialized")
        return None if answer is None else str(self._member(answer, "schema"))

    def objections(self, subject: str, schema: RegisteredSchema, references: Sequence[Reference]) -> list[str]:
        """Why the registry, by the compatibility that it is set to, would not take a new version; empty: it would.

        Raises:
            OutsideRegistryError: It does not answer, or with something else.
        """
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        answer = self._ask("POST", path, _body(schema, references))
        if answer is None or answer.get("is_compatible", True):
            return []
        said = answer.get("messages") or [answer.get("reason") or "no reason given"]
        return [str(each) for each in said]

    def register(self, subject: str, schema: RegisteredSchema, references: Sequence[Reference]) -> Registered:
        """Make a schema the subject's newest version; one that is there already stays what it is.

        Raises:
            OutsideRegistryError: It does not answer, or refuses.
        """
        path = f"/subjects/{quote(subject, safe='')}/versions"
        if self._ask("POST", path, _body(schema, references)) is None:
            raise OutsideRegistryError(f"{self._url}{path}: not found; does the URL name the registry's root?")
        found = self.find(subject, schema, references)
        if found is None:
            raise OutsideRegistryError(f"{self._url} has taken a schema of {subject} and does not find it")
        return found

    def _member(self, answer: dict[str, Any], name: str) -> Any:
        if name not in answer:
            raise OutsideRegistryError(f"{self._url} does not answer as a registry: no {name!r} in {answer!r}")
        return answer[name]

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """The answer; None where the registry says that there is no such thing."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._fields, method=method)  # noqa: S310 - see RegistrySettings
        try:
            with urllib.request.build_opener(NoRedirects).open(request, timeout=self._seconds) as answer:
                # What is cut off is no JSON any more.
                value = json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            detail = error.read(_DETAIL_BYTES).decode("utf-8", "replace")
            if error.code == _NOT_FOUND and _code(detail) >= _NOT_FOUND * 100:
                return None
            kind = OutsideRegistryUnreachable if error.code >= 500 else OutsideRegistryError
            raise kind(f"{method} {self._url}{path} was answered {error.code}: {detail}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise OutsideRegistryUnreachable(f"{self._url} does not answer as a registry: {error}") from error
        if not isinstance(value, dict):
            raise OutsideRegistryError(f"{method} {self._url}{path} was answered {value!r}")
        return value


def _code(detail: str) -> int:
    """The API's own code, 40401 to 40403 where something is not there: a plain 404 means that the URL is wrong."""
    try:
        return int(json.loads(detail)["error_code"])
    except (ValueError, TypeError, KeyError):
        return VERSION_NOT_FOUND if "error_code" in detail else 0


def _body(schema: RegisteredSchema, references: Sequence[Reference]) -> dict[str, object]:
    return {
        "schemaType": "PROTOBUF",
        "schema": schema.serialized,
        "references": [asdict(reference) for reference in references],
    }
