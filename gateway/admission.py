"""Who sends, and what do they prove? Turns a decoded request into a submission, or refuses it.

A write key names a source and lets it collect: user ids that come with it are *asserted*. A user id is *verified*
only where a token's subject is that very id: one bearer token for the request, or one identity token in an event's
context, for client libraries that cannot set headers.

Failure policy: closed for the request's own credentials (401), open for an event's identity token, which can only
raise the assurance: the event is kept as asserted, with a warning.
"""

from collections.abc import Collection

from clew.event.v1.event_pb2 import Warning as EventWarning
from gateway.credentials import Credentials
from gateway.decode.types import DecodedRequest
from gateway.errors import OriginNotAllowed, UnknownWriteKey
from gateway.http.cors import ANY_ORIGIN, allows
from gateway.sources import Source, Sources
from mesh.errors import InsufficientScope, InvalidToken, MissingCredentials, UpstreamUnavailable
from mesh.jwt import Claims, IssuerVerifiers

ADMIN_SCOPE = "clew.admin"
"""Stands for every scope: whoever administers the mesh could grant it to anybody."""

_MOST_BAD_TOKENS = 16
_INVALID = EventWarning.WARNING_IDENTITY_TOKEN_INVALID
_WRONG_SUBJECT = EventWarning.WARNING_IDENTITY_TOKEN_SUBJECT


class Admission:
    """Checks credentials against the sources and the trusted issuers.

    Args:
        sources: The sources by write key.
        tokens: Verifies the tokens of all trusted issuers.
        admin_issuers: Whose tokens may carry scopes of clew's; None: those of all trusted issuers.
    """

    def __init__(self, sources: Sources, tokens: IssuerVerifiers, admin_issuers: Collection[str] | None = None) -> None:
        self._sources = sources
        self._tokens = tokens
        self._admin_issuers = admin_issuers

    def knows(self, write_key: str, origin: str = "") -> bool:
        """Whether the write key belongs to a source, for a page of this origin; empty when no browser says one.

        Raises:
            OriginNotAllowed: It does, and the source's keys are not for pages of this origin.
        """
        source = self._sources.find(write_key)
        if source is not None and origin:
            _check_origin(source, origin)
        return source is not None

    def source(self, credentials: Credentials, origin: str = "") -> Source:
        """The source that the write key names.

        Args:
            credentials: They hold the key.
            origin: That of the page that sends, as its browser says; empty for everybody else.

        Raises:
            MissingCredentials: There is no write key.
            UnknownWriteKey: It belongs to no source, holds no longer, or its source is disabled.
            OriginNotAllowed: The source's keys are not for pages of this origin.
        """
        if not credentials.write_key:
            raise MissingCredentials(
                "send the source's write key: as Basic user name, as X-Write-Key, or as writeKey in the body"
            )
        source = self._sources.find(credentials.write_key)
        if source is None:
            raise UnknownWriteKey(
                "the write key belongs to no source, holds no longer, or its source is disabled; see the source's keys"
            )
        if origin:
            _check_origin(source, origin)
        return source

    async def subject(self, credentials: Credentials) -> str:
        """Which user's bearer token came with the request; empty when it is a client's own, which proves no user id.

        Raises:
            InvalidToken: It does not hold.
            UpstreamUnavailable: Its issuer's keys cannot be had, so that nothing is known about it.
        """
        return (await self._tokens.verify(credentials.bearer)).user

    async def proven(self, subject: str, decoded: DecodedRequest) -> frozenset[int]:
        """The indices of the events whose user id a token proves; an event whose own token does not gets a warning.

        `subject` is that of the request's bearer token; empty when there is none.
        """
        found: set[int] = set()
        tokens = _IdentityTokens(self._tokens)
        for event in decoded.events:
            if subject and event.user_id == subject:
                found.add(event.index)
            elif event.context.identity_token:
                holder = await tokens.holder(event.context.identity_token)
                if holder and holder == event.user_id:
                    found.add(event.index)
                else:
                    event.warnings.append(_WRONG_SUBJECT if holder else _INVALID)
        return frozenset(found)

    async def administrator(self, credentials: Credentials, scope: str, *others: str) -> Claims:
        """The claims of a bearer token that carries the scope, one of the others, or `clew.admin`.

        Raises:
            MissingCredentials: There is no token.
            InvalidToken: It does not hold.
            InsufficientScope: It holds and lacks the scope, or is of an issuer that is trusted for user ids only.
        """
        if not credentials.bearer:
            raise MissingCredentials(f"send a bearer token with the scope {scope}")
        claims = await self._tokens.verify(credentials.bearer)
        trusted = self._admin_issuers is None or claims.issuer in self._admin_issuers
        if not trusted or claims.scopes.isdisjoint((scope, ADMIN_SCOPE, *others)):
            raise InsufficientScope(scope)
        return claims


def _check_origin(source: Source, origin: str) -> None:
    if source.allowed_origins is not ANY_ORIGIN and not allows(source.allowed_origins, origin):
        raise OriginNotAllowed(origin)


class _IdentityTokens:
    """The identity tokens of one request: each is checked once, and after too many bad ones no other.

    A check of a bad token costs as much as carrying ten events, and its outcome is remembered nowhere else.
    """

    def __init__(self, verifiers: IssuerVerifiers) -> None:
        self._verifiers = verifiers
        self._holders: dict[str, str] = {}
        self._bad = 0

    async def holder(self, token: str) -> str:
        """Whose token it is; empty when it does not hold, or is not looked at any more."""
        holder = self._holders.get(token)
        if holder is None:
            holder = self._holders[token] = await self._check(token) if self._bad < _MOST_BAD_TOKENS else ""
        return holder

    async def _check(self, token: str) -> str:
        try:
            return (await self._verifiers.verify(token)).user
        except (InvalidToken, UpstreamUnavailable):
            self._bad += 1
            return ""
