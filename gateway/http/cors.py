"""Cross-origin requests: a page of any site may send events from a browser (WHATWG Fetch, "HTTP extensions").

What authorizes a request is its write key or token, which a script must hold to send it, never a cookie: so letting
every origin in gives no page anything that it did not have. Beacons carry credentials whether they are wanted or not,
and a browser accepts a wildcard only without them: so the origin itself is echoed.

A source may name the origins whose pages it takes events from. That is checked where the key is known, on the request
itself (`Admission`), and cannot be left to the browser: what the SDKs send needs no preflight, and a beacon never looks
at the answer (decision 7). A preflight names no key, so it is answered for every origin; and a refusal is marked for
its origin like any answer, so that the page's developer can read what to do.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gateway.http.message import Handler, Headers, Pair, Request, Response

_NO_CONTENT = 204
ANY_ORIGIN: Final = ("*",)
"""Allowed origins that let every page in."""

# Scheme, host and port as browsers serialize them (WHATWG HTML, "ASCII serialization of an origin"), and one wildcard.
_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://(\*\.)?([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HOST_PART = re.compile(r"[a-z0-9.-]+")


def is_origin_pattern(text: str) -> bool:
    """Whether it can stand in a list of allowed origins.

    An origin (`https://shop.example`), all below a host (`https://*.shop.example`), `null`, or `*`.
    """
    return text in {"*", "null"} or _PATTERN.fullmatch(text) is not None


def allows(patterns: Collection[str], origin: str) -> bool:
    """Whether a list of allowed origins lets a page of this origin in."""
    if origin in patterns or "*" in patterns:
        return True
    return any(_is_below(pattern, origin) for pattern in patterns if "*" in pattern)


def _is_below(pattern: str, origin: str) -> bool:
    scheme, _, rest = pattern.partition("*")
    if not (origin.startswith(scheme) and origin.endswith(rest)):
        return False
    return _HOST_PART.fullmatch(origin, len(scheme), len(origin) - len(rest)) is not None


@dataclass(slots=True, frozen=True)
class CorsPolicy:
    """Who may call from a browser, and with what. The defaults let browser SDKs of any site send events."""

    origins: tuple[str, ...] = ("*",)
    """Origins that are let in (`https://shop.example`), or `*` for any."""
    methods: tuple[str, ...] = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    """Methods of all routes; the router decides about each."""
    request_headers: tuple[str, ...] = (
        "content-type", "content-encoding", "authorization", "x-write-key", "x-retry-count", "anonymousid",
        "traceparent", "tracestate", "baggage", "x-requested-with",
    )  # fmt: skip
    """Fields that scripts may send. Browser SDKs send x-retry-count with every retry, and RudderStack's anonymousid."""
    response_headers: tuple[str, ...] = ("retry-after", "ratelimit", "ratelimit-policy", "traceparent")
    """Fields that scripts may read."""
    max_age_seconds: int = 7200
    """How long a browser may remember the answer; no browser remembers it for longer than that."""


class Cors:
    """Answers preflights and marks responses for the origins of a policy."""

    def __init__(self, policy: CorsPolicy | None = None) -> None:
        policy = policy or CorsPolicy()
        self._any = "*" in policy.origins
        self._origins = frozenset(policy.origins)
        self._preflight: tuple[Pair, ...] = (
            ("access-control-allow-methods", ", ".join(policy.methods)),
            ("access-control-allow-headers", ", ".join(policy.request_headers)),
            ("access-control-max-age", str(policy.max_age_seconds)),
        )
        self._exposed = ", ".join(policy.response_headers)

    def wrap(self, handler: Handler) -> Handler:
        """`handler`, with preflights answered before it for every path: a page could not read a refusal here."""

        async def handle(request: Request) -> Response:
            if request.method == "OPTIONS" and _is_preflight(request.headers):
                return Response(_NO_CONTENT, headers=self._preflight)
            return await handler(request)

        return handle

    def decorate(self, headers: Headers, response: Response) -> Response:
        """The response with what the origin in a request's headers needs to read it."""
        origin = headers.get_raw(b"origin")
        if origin is None and self._any:
            return response
        fields: tuple[Pair, ...] = (("vary", "Origin"),)
        if origin is not None and (self._any or origin.decode("latin-1") in self._origins):
            fields = self._fields(origin.decode("latin-1"))
        return replace(response, headers=response.headers + fields)

    def _fields(self, origin: str) -> tuple[Pair, ...]:
        return (
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", self._exposed),
            ("vary", "Origin"),
        )


def _is_preflight(headers: Headers) -> bool:
    return headers.get_raw(b"origin") is not None and headers.get_raw(b"access-control-request-method") is not None
