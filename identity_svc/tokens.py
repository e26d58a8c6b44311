"""Which tokens a client gets (RFC 6749 section 4.4, RFC 9068)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from identity_svc.clients import Client, ClientRegistry
from identity_svc.errors import ScopeNotGranted
from mesh.errors import InvalidArgument
from mesh.jwt import SignedToken, Signer

AUDIENCE = "clew"
IMPERSONATE = "clew.impersonate"
OWN_SCOPES = "clew."
"""Scopes of this prefix give power over the mesh: they are for clients, and a user's token never carries one."""

DEFAULT_LIFETIME_SECONDS = 600
# A user's token proves who somebody is and cannot be called back: it holds an hour at most, whoever asks.
MAX_USER_LIFETIME_SECONDS = 3_600
MAX_CLIENT_LIFETIME_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client asks for; empty and None mean that it did not say.

    Args:
        subject: Whom the token is about.
        scopes: What it shall be good for.
        lifetime_seconds: How long it shall hold.
    """

    subject: str = ""
    scopes: Sequence[str] = ()
    lifetime_seconds: int | None = None


class TokenIssuer:
    """Issues tokens to registered clients: about themselves, or about users when they have `clew.impersonate`."""

    def __init__(self, clients: ClientRegistry, signer: Signer) -> None:
        self._clients = clients
        self._signer = signer

    def issue(self, client_id: str, client_secret: str, request: TokenRequest) -> SignedToken:
        """Return a new token, with an id of its own.

        Raises:
            InvalidClient: The credentials match no registered client.
            ScopeNotGranted: The client may not have a scope that it asks for, or may not name a subject.
            InvalidArgument: The lifetime is longer than such a token may hold.
        """
        client = self._clients.authenticate(client_id, client_secret)
        # A client that names itself asks for what it is given without naming anybody.
        about_user = request.subject not in {"", client.client_id}
        return self._signer.sign(
            request.subject or client.client_id,
            AUDIENCE,
            lifetime_seconds=_lifetime(request.lifetime_seconds, about_user=about_user),
            scopes=_scopes(client, request.scopes, about_user=about_user),
            client_id=client.client_id,
        )


def _scopes(client: Client, asked: Collection[str], *, about_user: bool) -> Collection[str]:
    """Choose the token's scopes: what was asked for, never more than the client has, never clew's own for a user."""
    needed = [IMPERSONATE, *asked] if about_user else asked
    for scope in needed:
        if scope not in client.scopes:
            raise ScopeNotGranted(scope)
    for scope in asked:
        if about_user and scope.startswith(OWN_SCOPES):
            raise ScopeNotGranted(scope)
    return asked if asked or about_user else client.scopes


def _lifetime(asked: int | None, *, about_user: bool) -> int:
    limit = MAX_USER_LIFETIME_SECONDS if about_user else MAX_CLIENT_LIFETIME_SECONDS
    lifetime = DEFAULT_LIFETIME_SECONDS if asked is None else asked
    if not 1 <= lifetime <= limit:
        kind = "a user's token" if about_user else "a client's own token"
        raise InvalidArgument(f"{kind} holds 1 to {limit} seconds", field="lifetime", rule="duration.lte")
    return lifetime
