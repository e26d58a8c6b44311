"""The real servicer, over gRPC, as other processes see it."""

import json
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call

from clew.identity.v1 import identifier_pb2 as names
from clew.identity.v1 import identity_service_pb2 as messages
from mesh.clock import FixedClock
from mesh.jwt import JwksSource, Verifier


def resolve(stub: Any, workspace: str, *items: messages.IdentityQuery) -> list[messages.ResolvedIdentity]:
    """Resolve a batch."""
    request = messages.BatchResolveIdentitiesRequest(workspace=workspace, items=items)
    return list(stub.BatchResolveIdentities(request, timeout=10).results)


def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, ErrorInfo]:
    """Make a call that is refused, and return its status and the one reason that came with it."""
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=10)
    error = raised.value
    assert isinstance(error, grpc.Call)
    status = from_call(error)
    assert status is not None
    (detail,) = status.details
    info = ErrorInfo()
    detail.Unpack(info)
    return error.code(), info


def test_a_batch_is_answered_in_order(grpc_stub: Any) -> None:
    """Result i answers item i: visitor, user, their merge, another user on the same device."""
    visitor, user, merged, other = resolve(
        grpc_stub,
        "order",
        messages.IdentityQuery(anonymous_id="a1"),
        messages.IdentityQuery(user_id="u1"),
        messages.IdentityQuery(anonymous_id="a1", user_id="u1", user_id_verified=True),
        messages.IdentityQuery(anonymous_id="a1", user_id="u2"),
    )
    assert [r.assurance for r in (visitor, user, merged, other)] == [1, 2, 3, 2]
    assert merged.profile_id == user.profile_id
    assert list(merged.merged_profile_ids) == [visitor.profile_id]
    assert [r.conflict for r in (visitor, user, merged, other)] == [False, False, False, True]


def test_merged_profiles_are_named_once_a_profile(grpc_stub: Any) -> None:
    """With the last result of the profile, complete: so an answer cannot outgrow the largest message."""
    queries = [messages.IdentityQuery(anonymous_id=f"a{number}") for number in range(3)]
    logins = [messages.IdentityQuery(anonymous_id=f"a{number}", user_id="u1") for number in range(3)]
    results = resolve(grpc_stub, "once", messages.IdentityQuery(user_id="u1"), *queries, *logins, logins[0])
    visitors = [result.profile_id for result in results[1:4]]
    assert {result.profile_id for result in results[4:]} == {results[0].profile_id}
    assert [list(result.merged_profile_ids) for result in results[4:]] == [[], [], [], visitors]


def test_a_profile_is_returned_under_any_of_its_names(grpc_stub: Any, clock: FixedClock) -> None:
    """By id in any spelling, by a merged id, by an identifier; with identifiers, proofs and times."""
    visitor, user, _ = resolve(
        grpc_stub,
        "profile",
        messages.IdentityQuery(anonymous_id="a1"),
        messages.IdentityQuery(user_id="u1", user_id_verified=True),
        messages.IdentityQuery(anonymous_id="a1", user_id="u1"),
    )
    named = names.Identifier(kind=names.IDENTIFIER_KIND_ANONYMOUS_ID, value="a1")
    requests = [
        messages.GetProfileRequest(workspace="profile", profile_id=user.profile_id.upper()),
        messages.GetProfileRequest(workspace="profile", profile_id=visitor.profile_id),
        messages.GetProfileRequest(workspace="profile", identifier=named),
    ]
    first, second, third = (grpc_stub.GetProfile(request, timeout=10).profile for request in requests)
    assert first == second == third
    assert first.profile_id == user.profile_id
    assert [(i.identifier.value, i.assurance) for i in first.identifiers] == [("a1", 1), ("u1", 3)]
    assert first.assurance == names.ASSURANCE_VERIFIED
    assert first.create_time.ToNanoseconds() == first.update_time.ToNanoseconds() == clock.now_ns()


def test_an_unknown_profile_is_not_found(grpc_stub: Any) -> None:
    """NOT_FOUND with its reason, and nothing is created by asking."""
    named = names.Identifier(kind=names.IDENTIFIER_KIND_USER_ID, value="nobody")
    request = messages.GetProfileRequest(workspace="w", identifier=named)
    for _ in range(2):
        code, info = refusal(grpc_stub.GetProfile, request)
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "ERROR_REASON_PROFILE_NOT_FOUND")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (messages.BatchResolveIdentitiesRequest(workspace="w"), "items"),
        (messages.BatchResolveIdentitiesRequest(workspace="w", items=[messages.IdentityQuery()]), "items[0]"),
        (
            messages.BatchResolveIdentitiesRequest(
                workspace="w",
                items=[messages.IdentityQuery(anonymous_id="a"), messages.IdentityQuery(user_id="u" * 257)],
            ),
            "items[1].user_id",
        ),
    ],
)
def test_what_breaks_the_contract_is_refused_by_field(grpc_stub: Any, request_: Any, field: str) -> None:
    """INVALID_ARGUMENT names the field; nothing of the batch is applied."""
    code, info = refusal(grpc_stub.BatchResolveIdentities, request_)
    assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_an_issued_token_verifies_with_the_published_keys(grpc_stub: Any, clock: FixedClock) -> None:
    """IssueToken and GetJwks are the two halves: what the one signs, the other's keys verify."""
    issued = grpc_stub.IssueToken(
        messages.IssueTokenRequest(
            client_id="shop", client_secret="shop-secret", subject="u1", lifetime=Duration(seconds=60)
        ),
        timeout=10,
    )
    published = grpc_stub.GetJwks(messages.GetJwksRequest(), timeout=10)
    source = JwksSource.fixed(json.loads(published.jwks_json))
    claims = Verifier(published.issuer, "clew", source, clock=clock).verify_now(issued.access_token)
    assert (claims.subject, claims.scopes) == ("u1", frozenset())
    assert issued.expire_time.seconds == claims.expire_at == clock.now_ns() // 1_000_000_000 + 60
    assert "d" not in json.loads(published.jwks_json)["keys"][0]


def test_a_clients_own_token_names_its_scopes(grpc_stub: Any) -> None:
    """The response lists what the token carries."""
    request = messages.IssueTokenRequest(client_id="reader", client_secret="reader-secret")
    assert list(grpc_stub.IssueToken(request, timeout=10).scopes) == ["profiles.read"]


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"client_secret": "wrong"}, grpc.StatusCode.UNAUTHENTICATED, "ERROR_REASON_INVALID_CLIENT"),
        ({"client_id": "nobody"}, grpc.StatusCode.UNAUTHENTICATED, "ERROR_REASON_INVALID_CLIENT"),
        ({"subject": "u1"}, grpc.StatusCode.PERMISSION_DENIED, "ERROR_REASON_INSUFFICIENT_SCOPE"),
        ({"scopes": ["clew.admin"]}, grpc.StatusCode.PERMISSION_DENIED, "ERROR_REASON_INSUFFICIENT_SCOPE"),
        ({"lifetime": Duration(seconds=86_401)}, grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_ARGUMENT"),
    ],
)
def test_a_token_that_may_not_be_had_is_refused(
    grpc_stub: Any, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    """Each refusal has its status and reason, and never echoes a secret."""
    request = messages.IssueTokenRequest(**({"client_id": "reader", "client_secret": "reader-secret"} | fields))
    refused, info = refusal(grpc_stub.IssueToken, request)
    assert (refused, info.reason) == (code, reason)
    assert request.client_secret not in str(info)
