"""The inside of a token: which claims it must carry (RFC 7519, RFC 9068), of which type, and when they hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh.errors import InvalidToken

_REQUIRED: Final = ("iss", "sub", "aud", "exp", "iat")
# Text of a claim that travels on as an id; the contracts allow 256 characters.
_MAX_TEXT: Final = 256
# The largest time that survives a trip through a double (RFC 7493); also the year 285 million.
_MAX_TIME: Final = 2**53


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token proves.

    Args:
        subject: Whom it is about: `sub`.
        scopes: What it may be used for: `scope`, or `scp` where an issuer uses that.
        expire_at: Unix seconds from which on it proves nothing: `exp`.
        issuer: Who vouches for it: `iss`.
        token_id: What it is revoked by: `jti`; empty when the issuer gives none.
        client_id: Which client asked for it (RFC 9068): `client_id`; empty when the issuer does not say.
    """

    subject: str
    scopes: frozenset[str]
    expire_at: int
    issuer: str
    token_id: str
    client_id: str = ""

    @property
    def user(self) -> str:
        """The subject when it is a user; empty for a token that a client got about itself."""
        return "" if self.subject == self.client_id else self.subject


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claims of an issuer's tokens must say.

    Args:
        issuer: `iss` must be this.
        audience: `aud` must be or contain this.
        leeway_seconds: How far the issuer's clock may be off.
        require_token_id: Whether `jti` must be there.
    """

    issuer: str
    audience: str
    leeway_seconds: float
    require_token_id: bool

    def read(self, payload: Mapping[str, Any], now: float) -> Claims:
        """The claims, if they hold at `now`, Unix seconds.

        Raises:
            InvalidToken: One is missing, of a wrong type, or does not hold. The detail names it and never its value.
        """
        for name in (*_REQUIRED, "jti") if self.require_token_id else _REQUIRED:
            if payload.get(name) is None:
                raise InvalidToken(f"token has no {name}")
        if payload["iss"] != self.issuer:
            raise InvalidToken("token is of another issuer")
        if self.audience not in _audiences(payload["aud"]):
            raise InvalidToken("token is for another audience")
        return Claims(
            subject=_text(payload, "sub"),
            scopes=_scopes(payload),
            expire_at=self._check_times(payload, now),
            issuer=self.issuer,
            token_id=_optional_text(payload, "jti"),
            client_id=_optional_text(payload, "client_id"),
        )

    def _check_times(self, payload: Mapping[str, Any], now: float) -> int:
        expire_at, issued_at = _time(payload, "exp"), _time(payload, "iat")
        if expire_at <= issued_at:
            raise InvalidToken("token expires before it was issued")
        if now >= expire_at + self.leeway_seconds:
            raise InvalidToken("token has expired")
        if issued_at > now + self.leeway_seconds:
            raise InvalidToken("token was issued in the future")
        if "nbf" in payload and _time(payload, "nbf") > now + self.leeway_seconds:
            raise InvalidToken("token is not valid yet")
        return expire_at


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload[name]
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_TEXT:
        raise InvalidToken(f"token {name} is not text of 1 to {_MAX_TEXT} characters")
    return value


def _optional_text(payload: Mapping[str, Any], name: str) -> str:
    return "" if payload.get(name) is None else _text(payload, name)


def _time(payload: Mapping[str, Any], name: str) -> int:
    """A NumericDate (RFC 7519 section 2), whole seconds; a fraction is cut off."""
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TIME:
        raise InvalidToken(f"token {name} is not a time in seconds")
    return math.floor(value)


def _audiences(value: object) -> list[str]:
    """The audiences that a token names, one or a list (RFC 7519 section 4.1.3)."""
    audiences: list[Any] = value if isinstance(value, list) else [value]
    if not audiences or not all(isinstance(audience, str) for audience in audiences):
        raise InvalidToken("token aud is neither text nor a list of texts")
    return audiences


def _scopes(payload: Mapping[str, Any]) -> frozenset[str]:
    """The scopes: `scope`, words in one text (RFC 9068 section 2.2.3), or `scp`, a text or a list."""
    value = payload.get("scope", payload.get("scp", ""))
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidToken("token scope is neither text nor a list of texts")
    return frozenset(word for word in words if word)
