"""All that configures the gateway, read from the environment in one place."""

import re
from dataclasses import dataclass
from pathlib import Path

from gateway.http.limits import HttpLimits
from gateway.limits.adaptive import Bounds
from gateway.limits.gcra import NANOS
from gateway.limits.tarpit import HOLD_SECONDS
from gateway.sources import SourceLimits
from mesh.settings import setting

MAX_PORT = 65_535
_MOST_REQUEST_SECONDS = 60
_LEAST_TARGET_SECONDS = 0.05
_MOST_TARGET_SECONDS = 5
_BURST_SECONDS = 2
_MOST_REFUSAL_SECONDS = 5
_LEAST_HTTP_SECONDS = 0.1
_MOST_HTTP_SECONDS = 15
# What a browser can be sent to: a scheme, a host, maybe a port and a path.
_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[^\s?#]*)?")
_TARGET = re.compile(r"\S*[^\s:]:\d{1,5}")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the gateway listens, whom it calls and whom it trusts."""

    identity: str = setting("CLEW_IDENTITY", help="HOST:PORT of the identity service")
    consent: str = setting("CLEW_CONSENT", help="HOST:PORT of the consent service")
    enrich: str = setting("CLEW_ENRICH", help="HOST:PORT of the enrichment service")
    sources_file: Path | None = setting(
        "CLEW_SOURCES_FILE",
        default=None,
        help="JSON list of sources that are not changed at run time:"
        " [{workspace, name, write_key_sha256, purposes?, limits?, allowed_origins?}]",
    )
    http_host: str = setting("CLEW_HTTP_HOST", default="127.0.0.1", help="address that the HTTP edge listens on")
    http_port: int = setting("CLEW_HTTP_PORT", default=0, help="port of the HTTP edge; 0 takes a free one")
    public_url: str = setting(
        "CLEW_PUBLIC_URL",
        default="",
        help="where browsers reach the edge, for example https://events.example; empty: as each request addressed it",
    )
    issuer: str = setting(
        "CLEW_ISSUER", default="https://clew.local", help="issuer of the identity service's own tokens"
    )
    audience: str = setting("CLEW_AUDIENCE", default="clew", help="audience that a token must name")
    trusted_issuers: tuple[str, ...] = setting(
        "CLEW_TRUSTED_ISSUERS",
        default=(),
        help="outside issuers whose tokens prove user ids, each ISSUER=JWKS_URL, separated by commas",
    )
    admin_issuers: tuple[str, ...] = setting(
        "CLEW_ADMIN_ISSUERS",
        default=(),
        help="trusted issuers, besides CLEW_ISSUER, whose tokens may carry scopes like clew.admin, separated by commas",
    )
    trust_forwarded: bool = setting(
        "CLEW_TRUST_FORWARDED",
        default=False,
        help="take the client's address from the last entry of X-Forwarded-For (only behind a proxy that sets it)",
    )
    request_seconds: float = setting(
        "CLEW_REQUEST_SECONDS", default=9.5, help="an event request is answered within this time, 1 to 60 seconds"
    )

    events_per_second: float = setting(
        "CLEW_EVENTS_PER_SECOND",
        default=0.0,
        help="events a second that each source may send to one gateway, unless it has limits of its own; 0: any number",
    )
    events_burst: int = setting(
        "CLEW_EVENTS_BURST",
        default=0,
        help="events that a source may send at once after a pause; 0: what its rate gives in two seconds",
    )
    target_seconds: float = setting(
        "CLEW_TARGET_SECONDS",
        default=1.0,
        help="answers should take no longer on average, 0.05 to 5 seconds; the gateway takes in less when they do",
    )

    refusal_seconds: float = setting(
        "CLEW_REFUSAL_SECONDS",
        default=HOLD_SECONDS,
        help="a source that exceeds its rate or its share gets its 429 so much later on average, so that it asks less"
        " often, 0 to 5 seconds; 0: at once",
    )

    head_seconds: float = setting(
        "CLEW_HTTP_HEAD_SECONDS",
        default=10.0,
        help="a request's head must be there within this time of its first byte, and the first byte of the first"
        " request within it of the connection, 0.1 to 15 seconds",
    )
    body_seconds: float = setting(
        "CLEW_HTTP_BODY_SECONDS",
        default=10.0,
        help="a body may take this long, and longer only as long as it comes at 4 KiB a second, 0.1 to 15 seconds",
    )

    @property
    def http_limits(self) -> HttpLimits:
        """What the HTTP edge accepts."""
        return HttpLimits(
            header_seconds=self.head_seconds, first_seconds=self.head_seconds, body_seconds=self.body_seconds
        )

    @property
    def default_limits(self) -> SourceLimits | None:
        """The limits of sources that have none of their own; None: no rate limit."""
        if not self.events_per_second:
            return None
        return SourceLimits(
            self.events_per_second, self.events_burst or max(1, round(_BURST_SECONDS * self.events_per_second))
        )

    @property
    def bounds(self) -> Bounds:
        """How much the pipeline may hold."""
        return Bounds(target_ns=round(self.target_seconds * NANOS))

    def __post_init__(self) -> None:
        """Refuse what could be bound or called by nobody, at start and not at the first request."""
        for variable, target in (("IDENTITY", self.identity), ("CONSENT", self.consent), ("ENRICH", self.enrich)):
            if not _TARGET.fullmatch(target) or int(target.rpartition(":")[2]) > MAX_PORT:
                raise ValueError(f"CLEW_{variable}: {target!r} is no HOST:PORT")
        if not 0 <= self.http_port <= MAX_PORT:
            raise ValueError(f"CLEW_HTTP_PORT: {self.http_port} is no port; use 0 to {MAX_PORT}, 0 for a free one")
        if self.public_url and not _URL.fullmatch(self.public_url):
            raise ValueError(f"CLEW_PUBLIC_URL: {self.public_url!r} is no address like https://events.example")
        if not 1 <= self.request_seconds <= _MOST_REQUEST_SECONDS:
            raise ValueError(f"CLEW_REQUEST_SECONDS: {self.request_seconds:g} is not from 1 to 60; SDKs wait 10")
        self._check_limits()

    def _check_limits(self) -> None:
        for variable, seconds in (("HEAD", self.head_seconds), ("BODY", self.body_seconds)):
            if not _LEAST_HTTP_SECONDS <= seconds <= _MOST_HTTP_SECONDS:
                raise ValueError(f"CLEW_HTTP_{variable}_SECONDS: {seconds:g} is not from 0.1 to 15")
        if not _LEAST_TARGET_SECONDS <= self.target_seconds <= _MOST_TARGET_SECONDS:
            raise ValueError(f"CLEW_TARGET_SECONDS: {self.target_seconds:g} is not from 0.05 to 5")
        if not 0 <= self.refusal_seconds <= _MOST_REFUSAL_SECONDS:
            raise ValueError(f"CLEW_REFUSAL_SECONDS: {self.refusal_seconds:g} is not from 0 to 5; SDKs wait 10")
        if self.events_burst < 0 or (self.events_burst and not self.events_per_second):
            raise ValueError(f"CLEW_EVENTS_BURST: {self.events_burst} is not 0 or more beside a CLEW_EVENTS_PER_SECOND")
        try:
            self.default_limits  # noqa: B018 - whether it can be built is what is asked
        except ValueError as error:
            raise ValueError(f"CLEW_EVENTS_PER_SECOND: {error}") from error
