"""The rpcs of clew.identity.v1.IdentityService: messages to domain calls and back."""
# ruff: noqa: ARG002, N802 - the signatures are gRPC's and the names the contract's

import json
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from clew.identity.v1 import identifier_pb2, identity_service_pb2, profile_pb2
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceServicer
from identity_svc.errors import ProfileNotFound
from identity_svc.graph import IdentifierKey, Profile
from identity_svc.store import IdentityStore
from identity_svc.tokens import TokenIssuer, TokenRequest
from mesh.jwt import Signer
from mesh.streams.server import StreamOf

Context = grpc.aio.ServicerContext[Any, Any]


class IdentityServicer(IdentityServiceServicer):
    """Answers the rpcs. What is refused is raised; the server's interceptor makes statuses of it.

    Args:
        store: The identity graph.
        tokens: Issues tokens.
        signer: Whose public key verifies them.
        issuer: What the tokens name as theirs.
    """

    def __init__(self, store: IdentityStore, tokens: TokenIssuer, signer: Signer, issuer: str) -> None:
        self._store = store
        self._tokens = tokens
        self._jwks = identity_service_pb2.GetJwksResponse(jwks_json=json.dumps(signer.jwks()), issuer=issuer)

    async def BatchResolveIdentities(
        self, request: identity_service_pb2.BatchResolveIdentitiesRequest, context: Context
    ) -> identity_service_pb2.BatchResolveIdentitiesResponse:
        """Tie each item's identifiers to one profile."""
        resolutions = await self._store.resolve(request.workspace, request.items)
        response = identity_service_pb2.BatchResolveIdentitiesResponse()
        add = response.results.add
        last = {found.profile_id: index for index, found in enumerate(resolutions) if found.merged_profile_ids}
        for index, (profile_id, assurance, merged, conflict) in enumerate(resolutions):
            # Once a profile: repeated with each result, a long list would outgrow the message.
            named = merged if merged and last[profile_id] == index else ()
            add(profile_id=profile_id, assurance=assurance, merged_profile_ids=named, conflict=conflict)
        return response

    StreamResolveIdentities = StreamOf(BatchResolveIdentities, identity_service_pb2.StreamResolveIdentitiesResponse)  # type: ignore[assignment]

    async def GetProfile(
        self, request: identity_service_pb2.GetProfileRequest, context: Context
    ) -> identity_service_pb2.GetProfileResponse:
        """Return a profile."""
        profile = await self._store.find_profile(request.workspace, _key(request))
        if profile is None:
            raise ProfileNotFound
        return identity_service_pb2.GetProfileResponse(profile=_profile(profile))

    async def IssueToken(
        self, request: identity_service_pb2.IssueTokenRequest, context: Context
    ) -> identity_service_pb2.IssueTokenResponse:
        """Issue an access token to a client."""
        lifetime = request.lifetime.seconds if request.HasField("lifetime") else None
        wanted = TokenRequest(request.subject, request.scopes, lifetime)
        signed = self._tokens.issue(request.client_id, request.client_secret, wanted)
        return identity_service_pb2.IssueTokenResponse(
            access_token=signed.token,
            expire_time=Timestamp(seconds=signed.claims.expire_at),
            scopes=sorted(signed.claims.scopes),
        )

    async def GetJwks(
        self, request: identity_service_pb2.GetJwksRequest, context: Context
    ) -> identity_service_pb2.GetJwksResponse:
        """Return the public keys."""
        return self._jwks


def _key(request: identity_service_pb2.GetProfileRequest) -> str | IdentifierKey:
    if request.HasField("identifier"):
        return (request.workspace, request.identifier.kind, request.identifier.value)
    # The contract takes any spelling of a UUID; ours are in lower case.
    return request.profile_id.lower()


def _profile(profile: Profile) -> profile_pb2.Profile:
    return profile_pb2.Profile(
        profile_id=profile.profile_id,
        identifiers=[
            profile_pb2.ProfileIdentifier(
                identifier=identifier_pb2.Identifier(
                    kind=identifier_pb2.IdentifierKind.ValueType(each.kind), value=each.value
                ),
                assurance=identifier_pb2.Assurance.ValueType(each.assurance),
                first_seen_time=_timestamp(each.first_seen_ns),
            )
            for each in profile.identifiers
        ],
        assurance=identifier_pb2.Assurance.ValueType(profile.assurance),
        merged_profile_ids=profile.merged_profile_ids,
        create_time=_timestamp(profile.create_ns),
        update_time=_timestamp(profile.update_ns),
    )


def _timestamp(unix_ns: int) -> Timestamp:
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
