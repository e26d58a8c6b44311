"""Key sets: which keys are used, how they are fetched, and what happens when they cannot be."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import URLError

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from mesh.deadline import deadline_scope, remaining
from mesh.errors import InvalidToken, UpstreamUnavailable
from mesh.jwks import JwksDocument, JwksError, PublicKey, jwks_from_public_keys, parse_jwks, thumbprint
from mesh.jwks_source import JwksSource, fetch_url
from mesh.jwt import Signer, UnknownKey, Verifier

EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
EC_JWK: dict[str, Any] = jwks_from_public_keys({"ec": EC_KEY.public_key()})["keys"][0]
ISSUER = "https://issuer.test"


class Issuer:
    """An issuer whose key set document can change or be unreachable."""

    def __init__(self, document: JwksDocument | None = None) -> None:
        self.document = document
        self.fetches = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self) -> JwksDocument:
        """Get the document, as soon as the gate is open."""
        self.fetches += 1
        await self.gate.wait()
        if self.document is None:
            raise ConnectionError("no route to issuer")
        return self.document


def signed_by(key: ec.EllipticCurvePrivateKey) -> str:
    """A good token of the test issuer."""
    return Signer(key, ISSUER).sign("user-1", "clew", lifetime_seconds=60).token


def jwks_of(*keys: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """The key set with these keys under their thumbprints."""
    return jwks_from_public_keys({thumbprint(key.public_key()): key.public_key() for key in keys})


def test_a_published_key_set_reads_back() -> None:
    """What is published has kid, use and alg, nothing private, and reads back to the same keys."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ed_key = ed25519.Ed25519PrivateKey.generate()
    keys: dict[str, PublicKey] = {"ec": EC_KEY.public_key(), "rsa": rsa_key.public_key(), "ed": ed_key.public_key()}
    document = jwks_from_public_keys(keys)
    assert [(jwk["kid"], jwk["alg"], jwk["use"]) for jwk in document["keys"]] == [
        ("ec", "ES256", "sig"),
        ("rsa", "RS256", "sig"),
        ("ed", "EdDSA", "sig"),
    ]
    assert not any("d" in jwk for jwk in document["keys"])
    read = parse_jwks(json.dumps(document))
    assert read == parse_jwks(document)
    assert [(key.key_id, key.key) for key in read.keys] == list(keys.items())


def test_thumbprint_is_the_one_of_the_rfc() -> None:
    """The example of RFC 7638 section 3.1 has the thumbprint that the RFC gives."""
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
        "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
        "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }
    (key,) = parse_jwks({"keys": [jwk]}).keys
    assert thumbprint(key.key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": 5},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"d": "AAAA"},
        {"kid": 5},
        {"crv": "P-384"},
        {"x": "AAAA"},
        {"x": 5},
        {"x": None},
        {"y": EC_JWK["x"]},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "OKP", "crv": "X25519"},
        {"kty": None},
    ],
)
def test_keys_that_are_of_no_use_are_passed_over(change: dict[str, Any]) -> None:
    """Encryption, symmetric, private, off-curve and mislabelled keys are skipped, a good one beside them is kept."""
    document = {"keys": [EC_JWK | {"kid": "bad"} | change, 7, EC_JWK]}
    assert [key.key_id for key in parse_jwks(document).keys] == ["ec"]


def test_short_rsa_keys_are_passed_over() -> None:
    """RSA below 2048 bits proves nothing any more."""
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(JwksError):
        parse_jwks(jwks_from_public_keys({"short": short.public_key()}))


@pytest.mark.parametrize("document", ["", "[]", "null", "{}", '{"keys": {}}', '{"keys": []}', b"\xff", "[" * 100_000])
def test_what_is_no_key_set_is_an_error(document: str | bytes) -> None:
    """A document without usable keys is a JwksError, however broken."""
    with pytest.raises(JwksError):
        parse_jwks(document)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "key_ops", "alg", "kid"]), JSON_VALUES)
)
def test_any_key_is_read_or_passed_over(change: dict[str, Any]) -> None:
    """No content of a key breaks the reading of the set."""
    assert parse_jwks({"keys": [EC_JWK | change, EC_JWK]}).keys[-1].key_id == "ec"


async def test_keys_are_fetched_when_a_token_names_an_unknown_one() -> None:
    """The first token makes the source fetch; a rotated key is fetched when its first token comes."""
    issuer = Issuer(jwks_of(EC_KEY))
    verifier = Verifier(ISSUER, "clew", JwksSource(issuer.fetch, min_interval_seconds=0))
    assert (await verifier.verify(signed_by(EC_KEY))).subject == "user-1"
    issuer.document = jwks_of(EC_KEY, OTHER_KEY)
    assert (await verifier.verify(signed_by(OTHER_KEY))).subject == "user-1"
    assert issuer.fetches == 2


async def test_unknown_keys_cannot_make_load_on_the_issuer() -> None:
    """Within the interval an unknown key id is refused without a fetch."""
    issuer = Issuer(jwks_of(EC_KEY))
    verifier = Verifier(ISSUER, "clew", JwksSource(issuer.fetch, min_interval_seconds=60))
    for _ in range(20):
        with pytest.raises(UnknownKey):
            await verifier.verify(signed_by(OTHER_KEY))
    assert issuer.fetches == 1


async def test_many_waiting_tokens_share_one_fetch() -> None:
    """Tokens that arrive during a fetch wait for it, and one that gives up does not stop it for the others."""
    issuer = Issuer(jwks_of(EC_KEY))
    issuer.gate.clear()
    verifier = Verifier(ISSUER, "clew", JwksSource(issuer.fetch))
    waiting = [asyncio.create_task(verifier.verify(signed_by(EC_KEY))) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    issuer.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(not isinstance(result, BaseException) for result in results[1:])
    assert issuer.fetches == 1


async def test_a_shared_fetch_has_nobodys_deadline() -> None:
    """A fetch runs outside the request that caused it: one that is nearly over must not fail the others'."""
    issuer = Issuer(jwks_of(EC_KEY))

    async def fetch() -> JwksDocument:
        assert remaining(5.0) == 5.0
        return await issuer.fetch()

    with deadline_scope(0.01):
        assert await JwksSource(fetch).refresh()


async def test_an_outage_of_the_issuer_is_no_fault_of_the_token() -> None:
    """While no keys could ever be had, the answer is unavailable and not invalid: the client must send again."""
    issuer = Issuer()
    verifier = Verifier(ISSUER, "clew", JwksSource(issuer.fetch, min_interval_seconds=0))
    with pytest.raises(UpstreamUnavailable):
        await verifier.verify(signed_by(EC_KEY))
    issuer.document = jwks_of(EC_KEY)
    assert (await verifier.verify(signed_by(EC_KEY))).subject == "user-1"


async def test_an_unknown_key_is_nobodys_fault_while_the_issuer_cannot_be_asked() -> None:
    """A token of a new key that comes in an outage is to be sent again; one of a known key holds, a made-up one not."""
    issuer = Issuer(jwks_of(EC_KEY))
    source = JwksSource(issuer.fetch, min_interval_seconds=0)
    verifier = Verifier(ISSUER, "clew", source)
    await verifier.verify(signed_by(EC_KEY))
    issuer.document = None
    with pytest.raises(UpstreamUnavailable):
        await verifier.verify(signed_by(OTHER_KEY))
    assert (await verifier.verify(signed_by(EC_KEY))).subject == "user-1"
    issuer.document = jwks_of(EC_KEY)
    with pytest.raises(UnknownKey):
        await verifier.verify(signed_by(OTHER_KEY))
    issuer.document = jwks_of(EC_KEY, OTHER_KEY)
    assert (await verifier.verify(signed_by(OTHER_KEY))).subject == "user-1"


@pytest.mark.parametrize("broken", [None, "", "{}", '{"keys": []}'])
async def test_the_last_good_keys_stay(broken: str | None) -> None:
    """An issuer that is down or answers nonsense does not invalidate the keys that it published before."""
    issuer = Issuer(jwks_of(EC_KEY))
    source = JwksSource(issuer.fetch, min_interval_seconds=0)
    assert await source.refresh()
    issuer.document = broken
    assert not await source.refresh()
    assert (await Verifier(ISSUER, "clew", source).verify(signed_by(EC_KEY))).subject == "user-1"


async def test_a_withdrawn_key_stops_proving() -> None:
    """Keys beyond their age are renewed in the background, and what was verified with a withdrawn key is forgotten."""
    issuer = Issuer(jwks_of(EC_KEY))
    source = JwksSource(issuer.fetch, min_interval_seconds=0, max_age_seconds=0)
    verifier = Verifier(ISSUER, "clew", source)
    token = signed_by(EC_KEY)
    await verifier.verify(token)
    issuer.document = jwks_of(OTHER_KEY)
    with contextlib.suppress(InvalidToken):
        await verifier.verify(token)
    await source.refresh()
    with pytest.raises(UnknownKey):
        verifier.verify_now(token)


async def test_unchanged_keys_keep_what_was_verified() -> None:
    """A renewal that brings the same keys, in any order, does not empty the memory of verified tokens."""
    issuer = Issuer(jwks_of(EC_KEY, OTHER_KEY))
    source = JwksSource(issuer.fetch, min_interval_seconds=0)
    verifier = Verifier(ISSUER, "clew", source)
    token = signed_by(EC_KEY)
    await verifier.verify(token)
    issuer.document = jwks_of(OTHER_KEY, EC_KEY)
    assert await source.refresh()
    assert verifier.cached(token) is not None


async def test_fixed_keys_are_never_fetched() -> None:
    """A source of given keys has nothing to renew."""
    source = JwksSource.fixed(jwks_of(EC_KEY))
    source.refresh_if_old()
    assert not await source.refresh()


class _Handler(BaseHTTPRequestHandler):
    """Serves a key set, a redirect to it, and a document without end; or drips one."""

    def do_GET(self) -> None:
        """Answer by path."""
        if self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            # For as long as somebody reads: the reader is the one who must end it.
            with contextlib.suppress(OSError):
                while not threading.Event().wait(0.01):
                    self.wfile.write(b" ")
            return
        # A proxy is asked for the whole URL.
        body = json.dumps(jwks_of(EC_KEY)).encode() if self.path.endswith("/jwks") else b" " * 300_000
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/jwks")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a small HTTP server."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


async def test_keys_are_fetched_over_http(server: str) -> None:
    """A source with a URL gets its keys from there."""
    verifier = Verifier(ISSUER, "clew", JwksSource.from_url(f"{server}/jwks"))
    assert (await verifier.verify(signed_by(EC_KEY))).subject == "user-1"


async def test_keys_of_this_machine_are_asked_of_no_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names would see plain HTTP, and could answer with keys of its own."""
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.delenv("no_proxy", raising=False)
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/jwks"
        assert not await JwksSource.from_url(url).refresh()


@pytest.mark.parametrize("path", ["/moved", "/endless"])
async def test_redirects_and_large_documents_are_refused(server: str, path: str) -> None:
    """A redirect could lead anywhere, a document without end would fill the memory: neither is followed."""
    assert not await JwksSource.from_url(f"{server}{path}").refresh()


async def test_a_document_that_drips_is_given_up(server: str) -> None:
    """The time is that of the whole document, not of each of its bytes."""
    fetch = fetch_url(f"{server}/drip", seconds=0.2)
    with pytest.raises(URLError, match="in time"):
        await fetch()


def test_a_url_with_a_password_is_refused() -> None:
    """It would stand in logs and in error messages; the message does not repeat it."""
    with pytest.raises(ValueError, match="without a user name") as refusal:
        fetch_url("https://user:hunter2@issuer.test/jwks")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://issuer.test/jwks", "file:///etc/passwd", "ftp://127.0.0.1/", "", "https:"])
def test_keys_come_over_https_only(url: str) -> None:
    """Keys that can be changed on the way prove nothing: plain HTTP is for this machine only."""
    with pytest.raises(ValueError, match="https"):
        fetch_url(url)
