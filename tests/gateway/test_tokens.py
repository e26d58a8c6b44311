"""Whose tokens count: the identity service's own, and those of configured outside issuers, each by its own keys."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from gateway.settings import GatewaySettings
from gateway.tokens import _pairs, token_verifiers
from mesh.errors import InvalidToken, UpstreamUnavailable
from mesh.jwt import Signer
from mesh.settings import SettingsError
from tests.gateway.scripted import Stage, running_stage

OWN = Signer(generate_private_key(SECP256R1()), "https://clew.local")
OUTSIDE = Signer(generate_private_key(SECP256R1()), "https://login.example")


class _Issuer(BaseHTTPRequestHandler):
    """Publishes the outside issuer's keys."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """The key set, for whatever path."""
        self.asked.append(self.path)
        body = json.dumps(OUTSIDE.jwks()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep the tests' output quiet."""


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An identity service that publishes its keys."""
    async with running_stage() as running:
        running.identity.jwks_json = json.dumps(OWN.jwks())
        yield running


@pytest.fixture
def jwks_url() -> Iterator[str]:
    """Where the outside issuer publishes its keys."""
    _Issuer.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Issuer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/keys?tenant=a=b"
    server.shutdown()
    thread.join()
    server.server_close()


def settings(*trusted: str) -> GatewaySettings:
    """The settings, with these outside issuers."""
    target = "127.0.0.1:1"
    return GatewaySettings(target, target, target, Path("sources.json"), trusted_issuers=trusted)


def token(signer: Signer, audience: str = "clew") -> str:
    """A token for u1 that holds for a minute."""
    return signer.sign("u1", audience, lifetime_seconds=60).token


async def test_the_own_issuers_keys_are_asked_of_identity_once(stage: Stage) -> None:
    """With the first token, not at start; tokens after it cost no call."""
    verifiers = token_verifiers(settings(), stage.upstreams)
    assert stage.identity.jwks_calls == 0
    for _ in range(3):
        assert (await verifiers.verify(token(OWN))).subject == "u1"
    assert stage.identity.jwks_calls == 1


async def test_an_outside_issuers_keys_are_fetched_from_its_url(stage: Stage, jwks_url: str) -> None:
    """By the very URL, query and all; the identity service is not asked about foreign tokens."""
    verifiers = token_verifiers(settings(f"https://login.example={jwks_url}"), stage.upstreams)
    claims = await verifiers.verify(token(OUTSIDE))
    assert (claims.issuer, claims.subject) == ("https://login.example", "u1")
    assert _Issuer.asked == ["/keys?tenant=a=b"]
    assert stage.identity.jwks_calls == 0


async def test_an_issuer_cannot_speak_for_another(stage: Stage, jwks_url: str) -> None:
    """A token in the own issuer's name, signed with the outside one's key, does not hold."""
    verifiers = token_verifiers(settings(f"https://login.example={jwks_url}"), stage.upstreams)
    forged = Signer(OUTSIDE._key, "https://clew.local")
    with pytest.raises(InvalidToken):
        await verifiers.verify(token(forged))


async def test_an_issuer_that_is_not_configured_is_not_believed(stage: Stage) -> None:
    """Nor is anybody asked about it."""
    with pytest.raises(InvalidToken, match="not trusted"):
        await token_verifiers(settings(), stage.upstreams).verify(token(OUTSIDE))


async def test_a_token_for_another_audience_does_not_hold(stage: Stage) -> None:
    """It was given to somebody else."""
    with pytest.raises(InvalidToken):
        await token_verifiers(settings(), stage.upstreams).verify(token(OWN, audience="billing"))


async def test_without_keys_nothing_is_known_about_a_token(stage: Stage) -> None:
    """Neither good nor bad: the sender is told to come back."""
    stage.identity.jwks_json = "no keys"
    with pytest.raises(UpstreamUnavailable):
        await token_verifiers(settings(), stage.upstreams).verify(token(OWN))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("https://a.example=https://a.example/keys", ("https://a.example", "https://a.example/keys")),
        ("accounts.example=https://k.example/?x=1", ("accounts.example", "https://k.example/?x=1")),
        ("https://a.example/?t=1=http://127.0.0.1:1/k", ("https://a.example/?t=1", "http://127.0.0.1:1/k")),
    ],
)
def test_an_entry_names_an_issuer_and_its_key_set(entry: str, expected: tuple[str, str]) -> None:
    """Both may hold `=` themselves: the URL begins at the last one that a scheme follows."""
    assert list(_pairs((entry,))) == [expected]


@pytest.mark.parametrize(
    "entries",
    [
        ("nonsense",),
        ("=https://a.example/keys",),
        ("https://a.example=ftp://a.example/keys",),
        ("https://a.example=http://a.example/keys",),
        ("https://clew.local=https://a.example/keys",),
        ("https://a.example=https://a.example/1", "https://a.example=https://a.example/2"),
    ],
)
async def test_a_wrong_entry_is_refused_at_start(stage: Stage, entries: tuple[str, ...]) -> None:
    """No URL, no issuer, not https, or an issuer twice: the message names the variable."""
    with pytest.raises(SettingsError, match="CLEW_TRUSTED_ISSUERS"):
        token_verifiers(settings(*entries), stage.upstreams)
