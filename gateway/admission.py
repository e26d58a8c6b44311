"""Who sends, and what do they prove? Turns a decoded request into a submission, or refuses it.

A write key names a source and lets it collect: user ids that come with it are *asserted*. A user id is *verified*
only where a token's
subject is that very id: one bearer token for the request, or one identity token in an event's context, for client
libraries that cannot
set headers.

Failure policy: closed for the request's own credentials (401), open for an event's identity token, which can only
raise the assurance:
the event is kept as asserted, with a warning.
"""

from clew.event.v1.event_pb2 import Warning as EventWarning
from gateway.credentials import Credentials
from gateway.decode.types import DecodedEvent, DecodedRequest
from gateway.errors import UnknownWriteKey
from gateway.sources import Source, Sources
from mesh.errors import InsufficientScope, InvalidToken, MissingCredentials, UpstreamUnavailable
from mesh.jwt import Claims, IssuerVerifiers


class Admission:
    """Checks credentials against the configured sources and the trusted issuers."""

    def __init__(self, sources: Sources, tokens: IssuerVerifiers) -> None:
        self._sources = sources
        self._tokens = tokens

    def knows(self, write_key: str) -> bool:
        """Whether the write key belongs to a source."""
        return self._sources.find(write_key) is not None

    def source(self, credentials: Credentials) -> Source:
        """The source that the write key names.

        Raises:
            MissingCredentials: There is no write key.
            UnknownWriteKey: It belongs to no source.
        """
        if not credentials.write_key:
            raise MissingCredentials(
                "send the source's write key: as Basic user name, as X-Write-Key, or as writeKey in the body"
            )
        source = self._sources.find(credentials.write_key)
        if source is None:
            raise UnknownWriteKey("the write key belongs to no source; copy it again from the source's settings")
        return source

    async def subject(self, credentials: Credentials) -> str:
        """Whose bearer token came with the request.

        Raises:
            InvalidToken: It does not hold.
            UpstreamUnavailable: Its issuer's keys cannot be had, so that nothing is known about it.
        """
        return (await self._tokens.verify(credentials.bearer)).subject

    async def proven(self, subject: str, decoded: DecodedRequest) -> frozenset[int]:
        """The indices of the events whose user id a token proves; an event whose own token does not gets a warning.

        `subject` is that of the request's bearer token; empty when there is none.
        """
        found: set[int] = set()
        for event in decoded.events:
            if (subject and event.user_id == subject) or (event.context.identity_token and await self._proves(event)):
                found.add(event.index)
        return frozenset(found)

    async def _proves(self, event: DecodedEvent) -> bool:
        try:
            claims = await self._tokens.verify(event.context.identity_token)
        except (InvalidToken, UpstreamUnavailable):
            event.warnings.append(EventWarning.WARNING_IDENTITY_TOKEN_INVALID)
            return False
        if claims.subject != event.user_id:
            event.warnings.append(EventWarning.WARNING_IDENTITY_TOKEN_SUBJECT)
            return False
        return True

    async def administrator(self, credentials: Credentials, scope: str) -> Claims:
        """The claims of a bearer token that carries the scope.

        Raises:
            MissingCredentials: There is no token.
            InvalidToken: It does not hold.
            InsufficientScope: It holds and lacks the scope.
        """
        if not credentials.bearer:
            raise MissingCredentials(f"send a bearer token with the scope {scope}")
        claims = await self._tokens.verify(credentials.bearer)
        if scope not in claims.scopes:
            raise InsufficientScope(scope)
        return claims
