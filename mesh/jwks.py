"""The keys that tokens are verified with, as JSON Web Key Sets (RFC 7517): written and read strictly."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from mesh.jws import encode_segment

PublicKey = EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey
JwksDocument = str | bytes | Mapping[str, Any]

_MAX_KEYS: Final = 64
# NIST SP 800-131A below; above, a verification takes milliseconds of the event loop.
_RSA_BITS: Final = range(2048, 8193)


class JwksError(Exception):
    """A document is no key set, or holds no key that can be used."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the one algorithm that it verifies: a token cannot choose another one for it."""

    key_id: str | None
    algorithm: str
    key: PublicKey


class KeySet:
    """The keys of one issuer at one time."""

    __slots__ = ("_by_id", "keys")

    def __init__(self, keys: Sequence[VerificationKey] = ()) -> None:
        self.keys = tuple(keys)
        self._by_id = {(key.key_id, key.algorithm): key for key in reversed(keys) if key.key_id is not None}

    def find(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """The key that a token names; for one that names none, the only key of its algorithm."""
        if key_id is not None:
            return self._by_id.get((key_id, algorithm))
        candidates = [key for key in self.keys if key.algorithm == algorithm]
        return candidates[0] if len(candidates) == 1 else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self.fingerprints() == other.fingerprints()

    def __hash__(self) -> int:
        return hash(self.fingerprints())

    def fingerprints(self) -> frozenset[tuple[str | None, str, str]]:
        """What tells two sets apart: ids, algorithms and thumbprints, in no order."""
        return frozenset((key.key_id, key.algorithm, thumbprint(key.key)) for key in self.keys)


def thumbprint(key: PublicKey) -> str:
    """The key's RFC 7638 thumbprint (SHA-256): a key id that anyone can compute."""
    members = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
    jwk = _to_jwk(key)
    canonical = {name: jwk[name] for name in members[jwk["kty"]]}
    return encode_segment(hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).digest())


def jwks_from_public_keys(keys: Mapping[str, PublicKey]) -> dict[str, Any]:
    """The key set to publish, from public keys by key id."""
    return {"keys": [_to_jwk(key) | {"kid": kid, "use": "sig", "alg": _algorithm_of(key)} for kid, key in keys.items()]}


def parse_jwks(document: JwksDocument) -> KeySet:
    """Read a key set. Keys that are not for ES256, RS256 or EdDSA signatures are passed over, as RFC 7517 asks.

    Raises:
        JwksError: It is no key set, or no key of it can be used.
    """
    try:
        jwks = document if isinstance(document, Mapping) else json.loads(document)
    except (ValueError, RecursionError):
        raise JwksError("key set is not JSON") from None
    entries = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
        raise JwksError(f"key set has no list of at most {_MAX_KEYS} keys")
    keys = [key for entry in entries if isinstance(entry, Mapping) and (key := _parse_key(entry)) is not None]
    if not keys:
        raise JwksError("key set has no key for ES256, RS256 or EdDSA signatures")
    return KeySet(keys)


def _parse_key(jwk: Mapping[str, Any]) -> VerificationKey | None:
    try:
        # A set that publishes a private key has lost it: what it signs proves nothing.
        if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]) or "d" in jwk:
            return None
        key = _public_key(dict(jwk))
    except (PyJWTError, ValueError, TypeError):
        return None
    kid = jwk.get("kid")
    if (
        key is None
        or not (kid is None or isinstance(kid, str))
        or jwk.get("alg", _algorithm_of(key)) != _algorithm_of(key)
    ):
        return None
    return VerificationKey(kid, _algorithm_of(key), key)


def _public_key(jwk: dict[str, Any]) -> PublicKey | None:
    match jwk.get("kty"), jwk.get("crv"):
        case "EC", "P-256":
            key: object = ECAlgorithm.from_jwk(jwk)
        case "OKP", "Ed25519":
            key = OKPAlgorithm.from_jwk(jwk)
        case "RSA", _:
            key = RSAAlgorithm.from_jwk(jwk)
        case _:
            return None
    if isinstance(key, RSAPublicKey) and key.key_size not in _RSA_BITS:
        return None
    return key if isinstance(key, PublicKey) else None


def _to_jwk(key: PublicKey) -> dict[str, Any]:
    match key:
        case EllipticCurvePublicKey():
            return dict(ECAlgorithm.to_jwk(key, as_dict=True))
        case RSAPublicKey():
            return dict(RSAAlgorithm.to_jwk(key, as_dict=True))
        case _:
            return dict(OKPAlgorithm.to_jwk(key, as_dict=True))


def _algorithm_of(key: PublicKey) -> str:
    match key:
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case RSAPublicKey():
            return "RS256"
        case Ed25519PublicKey():
            return "EdDSA"
        case _:
            raise JwksError("only P-256, RSA and Ed25519 keys verify tokens")
