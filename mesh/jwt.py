"""Access tokens: signed with ES256, verified strictly.

pyjwt alone accepts tokens without `exp`, and several malformed ones; here the token's form is read strictly first
(`mesh/jws.py`), the key decides the algorithm, and every claim that a decision rests on must be there and of its type
(`mesh/claims.py`).

An ES256 token has a twin: (r, n - s) is as good a signature as (r, s), for the same claims. Anyone can compute it from
the token, so tokens are never compared, counted or revoked by their text or signature: use `token_id`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.exceptions import PyJWTError

from mesh.claims import ClaimRules, Claims
from mesh.clock import Clock, SystemClock
from mesh.errors import InvalidToken, UpstreamUnavailable
from mesh.ids import new_id
from mesh.jwks import (
    JwksError,
    KeySet,
    VerificationKey,
    jwks_from_public_keys,
    parse_jwks,
    thumbprint,
)
from mesh.jwks_source import JwksSource
from mesh.jws import MAX_TOKEN_BYTES, UnverifiedToken, read_token

__all__ = [
    "ALGORITHMS",
    "MAX_TOKEN_BYTES",
    "Claims",
    "IssuerVerifiers",
    "JwksError",
    "JwksSource",
    "KeySet",
    "SignedToken",
    "Signer",
    "UnknownKey",
    "Verifier",
    "jwks_from_public_keys",
    "parse_jwks",
    "thumbprint",
]

ALGORITHMS: Final = frozenset({"ES256", "RS256", "EdDSA"})
ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - RFC 9068 section 2.1, a media type

_NANOS_PER_SECOND: Final = 1_000_000_000
_JWS = jwt.PyJWS(algorithms=sorted(ALGORITHMS), options={"enforce_minimum_key_length": True})


class UnknownKey(InvalidToken):
    """The token names a key that its issuer has not published."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token as it is handed out, and what it claims."""

    token: str
    claims: Claims


class Signer:
    """Signs access tokens (RFC 9068) with ES256, which is eleven times faster than RS256.

    Args:
        key: A P-256 private key.
        issuer: `iss` of every token.
        key_id: `kid` of every token; the key's thumbprint when absent.
        clock: Tells `iat`.
    """

    def __init__(
        self, key: EllipticCurvePrivateKey, issuer: str, *, key_id: str | None = None, clock: Clock | None = None
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._clock = clock or SystemClock()
        self.public_key = key.public_key()
        self.key_id = key_id or thumbprint(self.public_key)
        self._headers = {"kid": self.key_id, "typ": ACCESS_TOKEN_TYPE}

    def sign(
        self, subject: str, audience: str, *, lifetime_seconds: int, scopes: Collection[str] = (), client_id: str = ""
    ) -> SignedToken:
        """A new token with an id of its own; it holds from now for so many seconds."""
        now = self._clock.now_ns() // _NANOS_PER_SECOND
        claims = Claims(subject, frozenset(scopes), now + lifetime_seconds, self._issuer, new_id(), client_id)
        payload: dict[str, object] = {
            "iss": claims.issuer,
            "sub": claims.subject,
            "aud": audience,
            "iat": now,
            "exp": claims.expire_at,
            "jti": claims.token_id,
        }
        if scopes:
            payload["scope"] = " ".join(sorted(scopes))
        if client_id:
            payload["client_id"] = client_id
        return SignedToken(jwt.encode(payload, self._key, algorithm="ES256", headers=self._headers), claims)

    def jwks(self) -> dict[str, Any]:
        """The key set that verifies this signer's tokens."""
        return jwks_from_public_keys({self.key_id: self.public_key})


class Verifier:
    """Verifies the tokens of one issuer for one audience; fails closed.

    A token that was verified is remembered under its hash until it expires, its issuer's keys change, or more recent
    ones push it out: a hit costs three microseconds, a verification 200 to 300. Belongs to one event loop.

    Args:
        issuer: `iss` must be this.
        audience: `aud` must be or contain this.
        source: The issuer's keys.
        algorithms: Which of ES256, RS256 and EdDSA are accepted.
        types: Accepted `typ` values, in lower case.
        require_type: Whether a token without `typ` is refused; some outside issuers leave it out.
        require_token_id: Whether a token without `jti` is refused.
        leeway_seconds: How far the issuer's clock may be off.
        cache_size: How many verified tokens are remembered.
        clock: Tells whether a token holds now.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        source: JwksSource,
        *,
        algorithms: Collection[str] = ALGORITHMS,
        types: Collection[str] = ("jwt", ACCESS_TOKEN_TYPE),
        require_type: bool = True,
        require_token_id: bool = False,
        leeway_seconds: float = 10.0,
        cache_size: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        if not algorithms or not ALGORITHMS.issuperset(algorithms):
            raise ValueError(f"algorithms must be some of {', '.join(sorted(ALGORITHMS))}")
        self.issuer = issuer
        self._source = source
        self._algorithms = frozenset(algorithms)
        self._types = frozenset(types) if require_type else frozenset({*types, ""})
        self._rules = ClaimRules(issuer, audience, leeway_seconds, require_token_id=require_token_id)
        self._clock = clock or SystemClock()
        self._cache = _TokenCache(cache_size)
        self._cached_keys = source.keys

    async def verify(self, token: str) -> Claims:
        """What the token proves now. Fetches the issuer's keys when the token names an unknown one.

        Raises:
            InvalidToken: It is malformed, expired, not yet valid, of another issuer or audience, or its signature does
                not hold.
            UpstreamUnavailable: It names an unknown key and the issuer's keys cannot be fetched, so nothing is known
                about the token.
        """
        self._source.refresh_if_old()
        try:
            return self.verify_now(token)
        except UnknownKey:
            if await self._source.refresh():
                return self.verify_now(token)
            if self._source.failing or not self._source.keys.keys:
                raise UpstreamUnavailable("issuer", "the keys of the token's issuer cannot be fetched now") from None
            raise

    def verify_now(self, token: str) -> Claims:
        """What the token proves now, by the keys at hand; UnknownKey when it names another one. Raises as `verify`."""
        cached = self.cached(token)
        if cached is not None:
            return cached
        now = self._clock.now_ns() / _NANOS_PER_SECOND
        claims = self._rules.read(self._check_signature(token), now)
        self._cache.put(token, claims)
        return claims

    def cached(self, token: str) -> Claims | None:
        """What the token proves now, if it was verified before and still holds."""
        if self._source.keys is not self._cached_keys:
            self._cached_keys = self._source.keys
            self._cache.clear()
        claims = self._cache.get(token)
        if claims is None or self._clock.now_ns() / _NANOS_PER_SECOND >= claims.expire_at + self._rules.leeway_seconds:
            return None
        return claims

    def _check_signature(self, token: str) -> Mapping[str, Any]:
        unverified = read_token(token)
        key = self._key_for(unverified)
        try:
            _JWS.decode_complete(token, key.key, algorithms=[key.algorithm])
        except PyJWTError:
            raise InvalidToken("token signature does not hold") from None
        return unverified.payload

    def _key_for(self, unverified: UnverifiedToken) -> VerificationKey:
        """The key, found by id *and* algorithm: an RSA key can so never be used as an HMAC secret."""
        if unverified.algorithm not in self._algorithms:
            raise InvalidToken("token algorithm is not accepted")
        if unverified.type not in self._types:
            raise InvalidToken("token type is not accepted")
        key = self._source.keys.find(unverified.key_id, unverified.algorithm)
        if key is None:
            raise UnknownKey("token names a key that its issuer has not published")
        return key


class IssuerVerifiers:
    """Verifies the tokens of several issuers: the issuer that a token names decides by which rules it is judged.

    Args:
        verifiers: One for each issuer; ValueError when two are for the same.
    """

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        self._by_issuer = {verifier.issuer: verifier for verifier in verifiers}
        if len(self._by_issuer) != len(verifiers):
            raise ValueError("two verifiers are for the same issuer")

    async def verify(self, token: str) -> Claims:
        """What the token proves now; raises as `Verifier.verify`."""
        for verifier in self._by_issuer.values():
            if (claims := verifier.cached(token)) is not None:
                return claims
        issuer = read_token(token).payload.get("iss")
        trusted = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if trusted is None:
            raise InvalidToken("token is of an issuer that is not trusted")
        return await trusted.verify(token)


class _TokenCache:
    """Claims by the hash of their token, the least recently used forgotten first: no token stays in memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._claims: OrderedDict[bytes, Claims] = OrderedDict()

    def get(self, token: str) -> Claims | None:
        """The claims, if the token was verified before."""
        key = self._key(token)
        claims = self._claims.get(key)
        if claims is not None:
            self._claims.move_to_end(key)
        return claims

    def put(self, token: str, claims: Claims) -> None:
        """Remember a verified token."""
        self._claims[self._key(token)] = claims
        if len(self._claims) > self._size:
            self._claims.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._claims.clear()

    @staticmethod
    def _key(token: str) -> bytes:
        return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
