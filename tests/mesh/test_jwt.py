"""Tokens: what proves a subject, and everything that looks as if it did."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mesh.clock import FixedClock
from mesh.errors import InvalidToken
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, UnknownKey, Verifier, jwks_from_public_keys

NOW = 1_750_000_000
ISSUER = "https://issuer.test"
AUDIENCE = "clew"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
JWKS = jwks_from_public_keys({"ec": EC_KEY.public_key(), "rsa": RSA_KEY.public_key(), "ed": ED_KEY.public_key()})
CLAIMS: dict[str, object] = {
    "iss": ISSUER,
    "sub": "user-1",
    "aud": AUDIENCE,
    "iat": NOW - 10,
    "exp": NOW + 600,
    "jti": "token-1",
    "scope": "clew.admin clew.read",
}
HEADER: dict[str, object] = {"alg": "ES256", "typ": "at+jwt", "kid": "ec"}


def verifier(clock: FixedClock | None = None, **options: Any) -> Verifier:
    """A verifier that knows all three test keys."""
    return Verifier(ISSUER, AUDIENCE, JwksSource.fixed(JWKS), clock=clock or FixedClock(NOW * 10**9), **options)


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw_token(header: str | Mapping[str, object], payload: str | Mapping[str, object]) -> str:
    """A token with a good ES256 signature over any two texts, however odd."""
    texts = [part if isinstance(part, str) else json.dumps(part) for part in (header, payload)]
    signing_input = ".".join(b64(text.encode("utf-8", "surrogatepass")) for text in texts)
    r, s = decode_dss_signature(EC_KEY.sign(signing_input.encode(), ec.ECDSA(SHA256())))
    return f"{signing_input}.{b64(r.to_bytes(32) + s.to_bytes(32))}"


def token(header: Mapping[str, object] | None = None, /, **claims: Any) -> str:
    """A good token with some header parameters and claims replaced; a claim given as `...` is left out."""
    payload = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}
    return raw_token({**HEADER, **(header or {})}, payload)


def test_a_good_token_proves_its_claims() -> None:
    """Subject, scopes, expiry, issuer and id come out as they were signed."""
    claims = verifier().verify_now(token())
    assert claims.subject == "user-1"
    assert claims.scopes == {"clew.admin", "clew.read"}
    assert (claims.expire_at, claims.issuer, claims.token_id) == (NOW + 600, ISSUER, "token-1")


def test_what_the_signer_signs_the_verifier_accepts() -> None:
    """A signed token verifies with the signer's own key set, and expires when it said it would."""
    clock = FixedClock(NOW * 10**9)
    signer = Signer(EC_KEY, ISSUER, clock=clock)
    signed = signer.sign("user-2", AUDIENCE, lifetime_seconds=60, scopes=["b", "a"], client_id="backend")
    checker = Verifier(ISSUER, AUDIENCE, JwksSource.fixed(signer.jwks()), require_token_id=True, clock=clock)
    assert checker.verify_now(signed.token) == signed.claims
    assert pyjwt.get_unverified_header(signed.token) == {"alg": "ES256", "typ": "at+jwt", "kid": signer.key_id}
    clock.advance(71)
    with pytest.raises(InvalidToken, match="expired"):
        checker.verify_now(signed.token)


def test_every_token_has_its_own_id() -> None:
    """Two tokens for the same subject can be revoked one by one."""
    signer = Signer(EC_KEY, ISSUER)
    ids = {signer.sign("user-1", AUDIENCE, lifetime_seconds=60).claims.token_id for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(("key", "kid", "algorithm"), [(RSA_KEY, "rsa", "RS256"), (ED_KEY, "ed", "EdDSA")])
def test_accepts_the_other_algorithms_of_outside_issuers(key: Any, kid: str, algorithm: str) -> None:
    """RS256 and EdDSA tokens verify with their keys, unless the verifier is told to take ES256 only."""
    signed = pyjwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": kid})
    assert verifier().verify_now(signed).subject == "user-1"
    with pytest.raises(InvalidToken, match="algorithm"):
        verifier(algorithms={"ES256"}).verify_now(signed)


def test_refuses_algorithms_that_are_none_of_ours() -> None:
    """A verifier cannot be built for HMAC or none."""
    for algorithms in ({"HS256"}, {"none"}, set[str]()):
        with pytest.raises(ValueError, match="algorithms"):
            verifier(algorithms=algorithms)


def test_refuses_an_unsigned_token() -> None:
    """`alg: none` is refused in any spelling, with and without a signature."""
    for alg in ("none", "None", "NONE", "nOnE"):
        unsigned = f"{b64(json.dumps({**HEADER, 'alg': alg}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
        for signature in ("", "AA"):
            with pytest.raises(InvalidToken):
                verifier().verify_now(f"{unsigned}.{signature}")


def test_refuses_a_public_key_used_as_hmac_secret() -> None:
    """HS256 with any spelling of the published key as secret proves nothing: everyone has that key."""
    public = RSA_KEY.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(JWKS["keys"][1]).encode(),
    ]
    signing_input = (
        f"{b64(json.dumps({**HEADER, 'alg': 'HS256', 'kid': 'rsa'}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    )
    for secret in secrets:
        forged = f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"
        with pytest.raises(InvalidToken):
            verifier().verify_now(forged)


def test_the_key_decides_the_algorithm() -> None:
    """A token cannot use a key with another algorithm than its own."""
    with pytest.raises(UnknownKey):
        verifier().verify_now(token({"kid": "rsa"}))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "dpop+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": ""},
        {"typ": None},
        {"typ": 1},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
        {"alg": ["ES256"]},
        {"alg": None},
        {"alg": "es256"},
        {"kid": 1},
        {"kid": ""},
        {"kid": "../../dev/null"},
        {"kid": None},
    ],
)
def test_refuses_a_header_that_asks_for_something_else(header: Mapping[str, object]) -> None:
    """A foreign type, a critical extension, an unencoded payload, a non-text parameter: refused though well signed."""
    with pytest.raises(InvalidToken):
        verifier().verify_now(token(header))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_accepts_the_spellings_of_its_types(kind: str) -> None:
    """`typ` is a media type: case and the application/ prefix do not matter (RFC 7515 section 4.1.9)."""
    assert verifier().verify_now(token({"typ": kind})).subject == "user-1"


def test_a_token_without_type_needs_leave() -> None:
    """An absent `typ` is refused unless the issuer is known to leave it out."""
    untyped = raw_token({"alg": "ES256", "kid": "ec"}, CLAIMS)
    with pytest.raises(InvalidToken, match="type"):
        verifier().verify_now(untyped)
    assert verifier(require_type=False).verify_now(untyped).subject == "user-1"


def test_never_takes_a_key_from_the_token() -> None:
    """A key that comes in the header, as value or as address, is not used."""
    attacker = ec.generate_private_key(ec.SECP256R1())
    jwk = jwks_from_public_keys({"own": attacker.public_key()})["keys"][0]
    headers = {"kid": "own", "jwk": jwk, "jku": "https://attacker.test/jwks", "typ": "at+jwt"}
    with pytest.raises(UnknownKey):
        verifier().verify_now(pyjwt.encode(CLAIMS, attacker, algorithm="ES256", headers=headers))


def test_without_key_id_the_only_key_of_the_algorithm_is_taken() -> None:
    """A token without `kid` verifies when its issuer has one key for its algorithm; with two it is refused."""
    nameless = raw_token({"alg": "ES256", "typ": "JWT"}, CLAIMS)
    assert verifier().verify_now(nameless).subject == "user-1"
    second = ec.generate_private_key(ec.SECP256R1()).public_key()
    two = JwksSource.fixed(jwks_from_public_keys({"ec": EC_KEY.public_key(), "new": second}))
    with pytest.raises(UnknownKey):
        Verifier(ISSUER, AUDIENCE, two, clock=FixedClock(NOW * 10**9)).verify_now(nameless)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat"])
@pytest.mark.parametrize("absent", [..., None])
def test_refuses_a_token_without_a_required_claim(claim: str, absent: object) -> None:
    """Each of iss, sub, aud, exp and iat must be there; null is not there."""
    with pytest.raises(InvalidToken, match=f"no {claim}"):
        verifier().verify_now(token(**{claim: absent}))


def test_a_token_id_can_be_required() -> None:
    """Without `jti` a token is fine by default and refused where it must be revocable."""
    nameless = token(jti=...)
    assert verifier().verify_now(nameless).token_id == ""
    with pytest.raises(InvalidToken, match="no jti"):
        verifier(require_token_id=True).verify_now(nameless)


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1750000300", True, [], {}, -1, 2**60, 1e300, "", "NaN"])
def test_refuses_times_that_are_no_times(claim: str, value: object) -> None:
    """Text, booleans, negative and absurd numbers are no NumericDate."""
    with pytest.raises(InvalidToken, match=claim):
        verifier().verify_now(token(**{claim: value}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e400"])
def test_refuses_numbers_that_json_does_not_have(number: str) -> None:
    """NaN and infinities, spelled out or by overflow, make no expiry that never comes."""
    payload = json.dumps({**CLAIMS, "exp": 0}).replace('"exp": 0', f'"exp": {number}')
    with pytest.raises(InvalidToken):
        verifier().verify_now(raw_token(HEADER, payload))


@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ({"exp": NOW - 10, "iat": NOW - 20}, "expired"),
        ({"exp": NOW - 3600, "iat": NOW - 7200}, "expired"),
        ({"exp": NOW - 9.5, "iat": NOW - 20}, "expired"),
        ({"iat": NOW + 11}, "future"),
        ({"nbf": NOW + 11}, "not valid yet"),
        ({"exp": NOW - 20, "iat": NOW - 10}, "before it was issued"),
        ({"iss": "https://issuer.test/"}, "issuer"),
        ({"iss": ["https://issuer.test"]}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": "clew2"}, "audience"),
        ({"aud": ["other", "others"]}, "audience"),
        ({"aud": []}, "aud"),
        ({"aud": [AUDIENCE, 1]}, "aud"),
        ({"aud": {AUDIENCE: True}}, "aud"),
        ({"aud": 1}, "aud"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": ["user-1"]}, "sub"),
        ({"sub": "x" * 257}, "sub"),
        ({"sub": "\ud800"}, "JSON"),
        ({"jti": 7}, "jti"),
        ({"scope": 7}, "scope"),
        ({"scope": [1]}, "scope"),
    ],
)
def test_refuses_claims_that_do_not_hold(claims: dict[str, Any], detail: str) -> None:
    """Expired, future, of another issuer or audience, or of a wrong type: refused, and the detail says which."""
    with pytest.raises(InvalidToken, match=detail):
        verifier().verify_now(token(**claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 9},
        {"iat": NOW + 9},
        {"nbf": NOW + 9},
        {"exp": NOW + 600.5},
        {"aud": ["other", AUDIENCE]},
        {"iat": 0},
    ],
)
def test_accepts_what_the_leeway_and_the_rfc_allow(claims: dict[str, Any]) -> None:
    """A clock that is a few seconds off, fractions of seconds and several audiences are fine."""
    assert verifier().verify_now(token(**claims)).subject == "user-1"


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": ...}, set()),
        ({"scope": ""}, set()),
        ({"scope": " a  b "}, {"a", "b"}),
        ({"scope": ..., "scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": ..., "scp": "a b"}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a"}),
    ],
)
def test_reads_scopes(claims: dict[str, Any], scopes: set[str]) -> None:
    """`scope` is words in a text; `scp` counts only where there is no `scope`."""
    assert verifier().verify_now(token(**claims)).scopes == scopes


MANGLED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "padded": lambda t: t + "=",
    "padded payload": lambda t: "{}.{}=.{}".format(*t.split(".")),
    "trailing dot": lambda t: t + ".",
    "trailing newline": lambda t: t + "\n",
    "leading space": lambda t: " " + t,
    "trailing garbage": lambda t: t + "~",
    "four segments": lambda t: t + ".AA",
    "five segments": lambda t: t + ".AA.AA",
    "two segments": lambda t: t.rsplit(".", 1)[0],
    "no signature": lambda t: t.rsplit(".", 1)[0] + ".",
    "short signature": lambda t: t[:-4],
    "long signature": lambda t: t + "AAAA",
    "empty header": lambda t: "." + t.split(".", 1)[1],
    "line break inside": lambda t: t[:20] + "\n" + t[20:],
    "plain base64": lambda t: t[:-1] + "+",
    "not ASCII": lambda t: t + "é",
    "full-width letter": lambda t: t[:-1] + "\uff21",
    "lone surrogate": lambda t: t + "\ud800",
    "oversized": lambda t: t + "A" * 8192,
    "bearer prefix": lambda t: "Bearer " + t,
    "json form": lambda t: json.dumps(dict(zip(("protected", "payload", "signature"), t.split("."), strict=True))),
}


@pytest.mark.parametrize("mangle", MANGLED.values(), ids=MANGLED.keys())
def test_refuses_any_other_spelling_of_a_good_token(mangle: Callable[[str], str]) -> None:
    """There is one spelling of a token; padding, space, other alphabets and extra bytes are refused."""
    with pytest.raises(InvalidToken):
        verifier().verify_now(mangle(token()))


def test_refuses_non_canonical_base64url() -> None:
    """Unused bits of a last character must be zero: otherwise one token has many spellings."""
    good = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes of signature leave four unused bits in the last character.
    twin = good[:-1] + alphabet[alphabet.index(good[-1]) + 1]
    assert base64.urlsafe_b64decode(twin.rsplit(".", 1)[1] + "==") == base64.urlsafe_b64decode(
        good.rsplit(".", 1)[1] + "=="
    )
    with pytest.raises(InvalidToken, match="canonical"):
        verifier().verify_now(twin)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ('{"alg":"ES256","typ":"JWT","kid":"ec","kid":"ec"}', CLAIMS),
        ('{"alg":"none","alg":"ES256","typ":"JWT","kid":"ec"}', CLAIMS),
        (HEADER, json.dumps(CLAIMS)[:-1] + ', "sub": "admin"}'),
        (HEADER, json.dumps(CLAIMS)[:-1] + ', "x": {"a": 1, "a": 2}}'),
        (HEADER, json.dumps([CLAIMS])),
        (HEADER, '"text"'),
        (HEADER, "null"),
        (HEADER, json.dumps(CLAIMS) + "{}"),
        (HEADER, "\ufeff" + json.dumps(CLAIMS)),
        (HEADER, json.dumps(CLAIMS)[:-1] + ', "x": "\ud800"}'.replace("\\", "")),
        (HEADER, json.dumps(CLAIMS)[:-1] + ', "x": ' + "[" * 2500 + "]" * 2500 + "}"),
        ("[]", CLAIMS),
        ("{", CLAIMS),
    ],
)
def test_refuses_json_that_can_be_read_in_two_ways(
    header: str | dict[str, object], payload: str | dict[str, object]
) -> None:
    """Duplicate names, non-objects, trailing text, byte order marks and broken UTF-8 are refused though well signed."""
    with pytest.raises(InvalidToken):
        verifier().verify_now(raw_token(header, payload))


def test_refuses_a_changed_token() -> None:
    """Claims or header that were changed after signing do not hold, and neither does another key's signature."""
    header, payload, signature = token().split(".")
    other_header, other_payload, other_signature = token({"typ": "JWT"}, sub="admin").split(".")
    stranger = pyjwt.encode(CLAIMS, ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "ec"})
    forged = [
        f"{header}.{other_payload}.{signature}",
        f"{other_header}.{payload}.{signature}",
        f"{header}.{payload}.{other_signature}",
        f"{header}.{payload}.{b64(bytes(64))}",
        stranger,
    ]
    for text in forged:
        with pytest.raises(InvalidToken, match="signature"):
            verifier().verify_now(text)


def test_the_twin_of_an_es256_signature_proves_the_same_token_id() -> None:
    """(r, n - s) verifies as well, by ECDSA's nature: a token is revoked by its id, never by its text."""
    good = token()
    signing_input, signature = good.rsplit(".", 1)
    raw = base64.urlsafe_b64decode(signature + "==")
    twin = f"{signing_input}.{b64(raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32))}"
    checker = verifier()
    assert twin != good
    assert checker.verify_now(twin).token_id == checker.verify_now(good).token_id == "token-1"


def test_no_part_of_the_token_is_in_the_error() -> None:
    """Errors leave the process: they name what is wrong and never quote it."""
    secret = "very-secret-subject"
    for bad in (token(sub=secret, exp=1), token({"kid": secret}), token({"crit": [secret]}), token(iss=secret), secret):
        with pytest.raises(InvalidToken) as refused:
            verifier().verify_now(bad)
        assert secret not in str(refused.value)
        assert not refused.value.metadata


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: f"{b64(data)}.{b64(data)}.{b64(data)}"))
def test_any_text_is_refused_as_a_token(text: str) -> None:
    """Whatever comes in the place of a token, the answer is InvalidToken and nothing else."""
    with pytest.raises(InvalidToken):
        verifier().verify_now(text)


@given(st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "scp"]), st.none() | st.integers() | st.floats() | st.text()))
def test_any_claims_are_verified_or_refused(claims: dict[str, Any]) -> None:
    """A well-signed token with arbitrary claim values either proves claims of the right types or is an InvalidToken."""
    try:
        proven = verifier().verify_now(token(**claims))
    except InvalidToken:
        return
    assert isinstance(proven.subject, str)
    assert proven.expire_at > NOW - 10


def test_a_verified_token_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second check of a token needs no signature."""
    checker = verifier()
    good = token()
    first = checker.verify_now(good)
    monkeypatch.setattr("mesh.jwt._JWS", None)
    assert checker.verify_now(good) is first


def test_a_remembered_token_still_expires() -> None:
    """Being remembered does not outlive `exp`, plus the leeway."""
    clock = FixedClock(NOW * 10**9)
    checker = verifier(clock)
    good = token()
    checker.verify_now(good)
    clock.advance(609)
    assert checker.verify_now(good).subject == "user-1"
    clock.advance(1)
    with pytest.raises(InvalidToken, match="expired"):
        checker.verify_now(good)


def test_a_refused_token_is_not_remembered() -> None:
    """A token that is not valid yet becomes valid in time."""
    clock = FixedClock(NOW * 10**9)
    checker = verifier(clock)
    early = token(nbf=NOW + 60)
    with pytest.raises(InvalidToken):
        checker.verify_now(early)
    clock.advance(61)
    assert checker.verify_now(early).subject == "user-1"


def test_the_memory_is_bounded() -> None:
    """Beyond its size the least recently used token is forgotten."""
    checker = verifier(cache_size=2)
    first, second, third = (token(sub=f"user-{n}") for n in range(3))
    for text in (first, second, first, third):
        checker.verify_now(text)
    assert [checker.cached(text) is not None for text in (first, second, third)] == [True, False, True]


async def test_the_issuer_decides_which_verifier_judges() -> None:
    """Of several trusted issuers, a token is judged by the rules and keys of the one that it names, and no other."""
    other_key = ec.generate_private_key(ec.SECP256R1())
    clock = FixedClock(NOW * 10**9)
    other = Verifier("https://other.test", AUDIENCE, JwksSource.fixed(Signer(other_key, "x").jwks()), clock=clock)
    verifiers = IssuerVerifiers([verifier(clock), other])
    from_other = Signer(other_key, "https://other.test", clock=clock).sign("user-9", AUDIENCE, lifetime_seconds=60)
    for _ in range(2):
        assert (await verifiers.verify(token())).issuer == ISSUER
        assert (await verifiers.verify(from_other.token)).issuer == "https://other.test"
    impostor = Signer(other_key, ISSUER, clock=clock).sign("user-9", AUDIENCE, lifetime_seconds=60)
    with pytest.raises(UnknownKey):
        await verifiers.verify(impostor.token)
    for issuer in ("https://unknown.test", 5, ["a"]):
        with pytest.raises(InvalidToken, match="not trusted"):
            await verifiers.verify(token(iss=issuer))
    with pytest.raises(ValueError, match="same issuer"):
        IssuerVerifiers([verifier(), verifier()])
