"""Whose tokens the gateway believes: the identity service's own, and those of configured outside issuers."""

from collections.abc import Iterator

from clew.identity.v1.identity_service_pb2 import GetJwksRequest
from gateway.settings import GatewaySettings
from gateway.upstreams import Upstreams
from mesh.deadline import remaining
from mesh.jwks import JwksDocument
from mesh.jwks_source import JwksSource
from mesh.jwt import IssuerVerifiers, Verifier
from mesh.settings import SettingsError

_JWKS_SECONDS = 2.0


def token_verifiers(settings: GatewaySettings, upstreams: Upstreams) -> IssuerVerifiers:
    """One verifier for each trusted issuer; the issuer that a token names decides by which it is judged.

    Raises:
        SettingsError: An entry of `CLEW_TRUSTED_ISSUERS` is no ISSUER=JWKS_URL, or names an issuer twice.
    """

    async def own_keys() -> JwksDocument:
        return (await upstreams.identity.GetJwks(GetJwksRequest(), timeout=remaining(_JWKS_SECONDS))).jwks_json

    own = Verifier(settings.issuer, settings.audience, JwksSource(own_keys, name="identity"))
    try:
        # Outside issuers follow OpenID Connect, where a token's type and id are optional.
        outside = [
            Verifier(issuer, settings.audience, JwksSource.from_url(url), require_type=False)
            for issuer, url in _pairs(settings.trusted_issuers)
        ]
        return IssuerVerifiers([own, *outside])
    except ValueError as error:
        raise SettingsError([f"CLEW_TRUSTED_ISSUERS: {error}"]) from error


def _pairs(entries: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        issuer, separator, url = entry.rpartition("=https://")
        if not separator:
            issuer, separator, url = entry.rpartition("=http://")
        if not issuer:
            raise ValueError(f"{entry!r} is no ISSUER=JWKS_URL")
        yield issuer, separator[1:] + url
