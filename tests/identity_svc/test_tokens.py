"""TokenIssuer: which tokens a client gets."""

import pytest

from identity_svc.errors import InvalidClient, ScopeNotGranted
from identity_svc.tokens import TokenIssuer, TokenRequest
from mesh.clock import FixedClock
from mesh.errors import InvalidArgument
from mesh.jwt import Claims, JwksSource, SignedToken, Signer, Verifier
from tests.identity_svc.conftest import ISSUER


def shop(tokens: TokenIssuer, request: TokenRequest | None = None) -> SignedToken:
    """Ask as the client that may do everything."""
    return tokens.issue("shop", "shop-secret", request or TokenRequest())


def verified(signer: Signer, clock: FixedClock, signed: SignedToken) -> Claims:
    """Check a token as the gateway does."""
    source = JwksSource.fixed(signer.jwks())
    return Verifier(ISSUER, "clew", source, require_token_id=True, clock=clock).verify_now(signed.token)


def test_a_clients_own_token_carries_all_its_scopes(tokens: TokenIssuer, signer: Signer, clock: FixedClock) -> None:
    """Without a subject the token is about the client, for ten minutes, with all that it has."""
    claims = verified(signer, clock, shop(tokens))
    assert claims.subject == "shop"
    assert claims.scopes == {"clew.impersonate", "clew.admin", "profiles.read"}
    assert claims.expire_at == clock.now_ns() // 1_000_000_000 + 600


def test_a_users_token_carries_no_scope_unless_asked(tokens: TokenIssuer, signer: Signer, clock: FixedClock) -> None:
    """A token about a user proves who it is and nothing else; a scope is added when the client names it."""
    assert verified(signer, clock, shop(tokens, TokenRequest("user-1"))).scopes == frozenset()
    asked = shop(tokens, TokenRequest("user-1", ["profiles.read"]))
    claims = verified(signer, clock, asked)
    assert claims.subject == "user-1"
    assert claims.scopes == {"profiles.read"}


def test_a_narrower_token_can_be_asked_for(tokens: TokenIssuer) -> None:
    """The client gets exactly the scopes that it names."""
    assert shop(tokens, TokenRequest(scopes=["profiles.read"])).claims.scopes == {"profiles.read"}


def test_naming_a_user_needs_a_scope(tokens: TokenIssuer) -> None:
    """A client without clew.impersonate gets tokens about itself only; naming itself is no impersonation."""
    with pytest.raises(ScopeNotGranted) as caught:
        tokens.issue("reader", "reader-secret", TokenRequest("user-1"))
    assert caught.value.metadata == {"scope": "clew.impersonate"}
    own = tokens.issue("reader", "reader-secret", TokenRequest("reader"))
    assert own.claims.scopes == {"profiles.read"}


@pytest.mark.parametrize("subject", ["", "user-1"])
def test_nobody_gets_a_scope_that_the_client_lacks(tokens: TokenIssuer, subject: str) -> None:
    """The refusal names the scope, whoever the token would be about."""
    with pytest.raises(ScopeNotGranted) as caught:
        shop(tokens, TokenRequest(subject, ["profiles.read", "profiles.erase"]))
    assert caught.value.metadata == {"scope": "profiles.erase"}


@pytest.mark.parametrize("scope", ["clew.admin", "clew.impersonate"])
def test_a_users_token_never_carries_power_over_the_mesh(tokens: TokenIssuer, scope: str) -> None:
    """Even a client that has such a scope cannot hand it on to a user."""
    with pytest.raises(ScopeNotGranted) as caught:
        shop(tokens, TokenRequest("user-1", [scope]))
    assert caught.value.metadata == {"scope": scope}


def test_credentials_come_first(tokens: TokenIssuer) -> None:
    """Who proves nothing learns nothing about scopes and limits."""
    with pytest.raises(InvalidClient):
        tokens.issue("shop", "wrong", TokenRequest("user-1", ["profiles.erase"], lifetime_seconds=999_999))


@pytest.mark.parametrize(("subject", "limit"), [("", 86_400), ("user-1", 3_600)])
def test_lifetimes_are_limited(tokens: TokenIssuer, clock: FixedClock, subject: str, limit: int) -> None:
    """A user's token holds an hour at most, a client's own a day; one second more is refused."""
    longest = shop(tokens, TokenRequest(subject, lifetime_seconds=limit))
    assert longest.claims.expire_at == clock.now_ns() // 1_000_000_000 + limit
    for seconds in (0, limit + 1):
        with pytest.raises(InvalidArgument) as caught:
            shop(tokens, TokenRequest(subject, lifetime_seconds=seconds))
        assert caught.value.metadata["field"] == "lifetime"


def test_every_token_has_its_own_id(tokens: TokenIssuer) -> None:
    """Two requests alike give two tokens that can be told apart."""
    assert shop(tokens).claims.token_id != shop(tokens).claims.token_id
