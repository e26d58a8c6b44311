"""All that configures the gateway, read from the environment in one place."""

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import setting


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the gateway listens, whom it calls and whom it trusts."""

    identity: str = setting("CLEW_IDENTITY", help="HOST:PORT of the identity service")
    consent: str = setting("CLEW_CONSENT", help="HOST:PORT of the consent service")
    enrich: str = setting("CLEW_ENRICH", help="HOST:PORT of the enrichment service")
    sources_file: Path = setting(
        "CLEW_SOURCES_FILE", help="JSON list of sources: [{workspace, name, write_key_sha256, purposes?}]"
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
    trust_forwarded: bool = setting(
        "CLEW_TRUST_FORWARDED",
        default=False,
        help="take the client's address from the last entry of X-Forwarded-For (only behind a proxy that sets it)",
    )
    request_seconds: float = setting(
        "CLEW_REQUEST_SECONDS", default=9.5, help="an event request is answered within this time, in seconds"
    )
