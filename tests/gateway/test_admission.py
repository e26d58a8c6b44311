"""Admission: a write key collects, a token proves, and nothing proves more than its own subject."""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from clew.event.v1.event_pb2 import Warning as EventWarning
from gateway.admission import Admission
from gateway.credentials import Credentials
from gateway.decode import decode_request
from gateway.decode.types import DecodedRequest
from gateway.errors import UnknownWriteKey
from gateway.sources import Source, Sources, hash_key
from mesh.errors import InsufficientScope, InvalidToken, MissingCredentials, UpstreamUnavailable
from mesh.jwks import JwksDocument
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, Verifier

ISSUER, OUTSIDE, DOWN = "https://clew.test", "https://login.example", "https://down.example"
SOURCE = Source("shop", "web", frozenset({1}))
SIGNER = Signer(generate_private_key(SECP256R1()), ISSUER)
OUTSIDER = Signer(generate_private_key(SECP256R1()), OUTSIDE)
UNREACHABLE = Signer(generate_private_key(SECP256R1()), DOWN)


async def _no_keys() -> JwksDocument:
    raise OSError("the issuer is down")


@pytest.fixture
def admission() -> Admission:
    """One source, two issuers whose keys are known, and one whose keys cannot be had."""
    sources = {
        ISSUER: JwksSource.fixed(SIGNER.jwks()),
        OUTSIDE: JwksSource.fixed(OUTSIDER.jwks()),
        DOWN: JwksSource(_no_keys),
    }
    verifiers = IssuerVerifiers([Verifier(issuer, "clew", keys) for issuer, keys in sources.items()])
    return Admission(Sources({hash_key("k1"): SOURCE}), verifiers)


def token(subject: str, *, signer: Signer = SIGNER, audience: str = "clew", scopes: Sequence[str] = ()) -> str:
    """A token that outlives the whole suite, since parameters are made when tests are collected."""
    return signer.sign(subject, audience, lifetime_seconds=3_600, scopes=scopes).token


def decoded(*events: dict[str, Any]) -> DecodedRequest:
    """A decoded batch of track calls."""
    batch = [{"type": "track", "event": "Seen", **event} for event in events]
    return decode_request(json.dumps({"batch": batch}).encode(), None, 0)


def with_token(user_id: str, identity_token: str) -> dict[str, Any]:
    """An event that brings its own proof."""
    return {"userId": user_id, "context": {"identityToken": identity_token}}


async def proven(admission: Admission, request: DecodedRequest, bearer: str = "") -> frozenset[int]:
    """The indices that are proven, as the collector asks for them."""
    subject = await admission.subject(Credentials("k1", bearer)) if bearer else ""
    return await admission.proven(subject, request)


def test_a_write_key_names_its_source(admission: Admission) -> None:
    """It is all that is needed to collect."""
    assert admission.source(Credentials("k1")) is SOURCE
    assert admission.knows("k1")
    assert not admission.knows("k2")


def test_no_key_and_a_wrong_key_are_told_apart(admission: Admission) -> None:
    """Either message says what to do; neither repeats the key."""
    with pytest.raises(MissingCredentials, match="send the source's write key"):
        admission.source(Credentials())
    with pytest.raises(UnknownWriteKey) as caught:
        admission.source(Credentials("s3cret"))
    assert "s3cret" not in str(caught.value)


async def test_a_write_key_alone_proves_nobody(admission: Admission) -> None:
    """Whatever user ids it comes with are asserted."""
    request = decoded({"userId": "u1"}, {"anonymousId": "a"})
    assert await proven(admission, request) == frozenset()
    assert [event.warnings for event in request.events] == [[EventWarning.WARNING_MESSAGE_ID_MINTED]] * 2


async def test_a_clients_own_token_proves_no_user_id(admission: Admission) -> None:
    """A client whose id happens to equal a user id has not logged that user in."""
    own = SIGNER.sign("shop", "clew", lifetime_seconds=60, client_id="shop").token
    handed_out = SIGNER.sign("user-1", "clew", lifetime_seconds=60, client_id="shop").token
    assert await admission.subject(Credentials("k1", own)) == ""
    assert await admission.subject(Credentials("k1", handed_out)) == "user-1"


async def test_a_bearer_token_proves_its_own_subject_only(admission: Admission) -> None:
    """Not another user's id, not one that looks alike, not a visitor without a user id, not the group of that name."""
    users = [{"userId": "u1"}, {"userId": "u2"}, {"userId": "U1"}, {"anonymousId": "u1"}, {"userId": "u1 "}]
    group = {"type": "group", "groupId": "u1", "userId": "u3"}
    assert await proven(admission, decoded(*users, group), token("u1")) == {0}


async def test_a_bearer_token_that_does_not_hold_refuses_the_request(admission: Admission) -> None:
    """Fails closed: the sender meant to prove something."""
    for bad in (token("u1", audience="other"), token("u1") + "x", "nonsense", token("u1", signer=UNREACHABLE)[:-4]):
        with pytest.raises((InvalidToken, UpstreamUnavailable)):
            await proven(admission, decoded({"userId": "u1"}), bad)


async def test_a_bearer_token_whose_issuer_cannot_be_asked_is_to_be_sent_again(admission: Admission) -> None:
    """Nothing is known about it: that is no 401."""
    with pytest.raises(UpstreamUnavailable):
        await proven(admission, decoded({"userId": "u1"}), token("u1", signer=UNREACHABLE))


async def test_an_identity_token_proves_its_own_event_only(admission: Admission) -> None:
    """An event's token says nothing about its neighbours, of either trusted issuer."""
    request = decoded(with_token("u1", token("u1")), {"userId": "u1"}, with_token("u2", token("u2", signer=OUTSIDER)))
    assert await proven(admission, request) == {0, 2}


@pytest.mark.parametrize(
    ("identity_token", "warning"),
    [
        ("nonsense", EventWarning.WARNING_IDENTITY_TOKEN_INVALID),
        (token("u1", audience="other"), EventWarning.WARNING_IDENTITY_TOKEN_INVALID),
        (
            token("u1", signer=Signer(generate_private_key(SECP256R1()), ISSUER)),
            EventWarning.WARNING_IDENTITY_TOKEN_INVALID,
        ),
        (token("u1", signer=UNREACHABLE), EventWarning.WARNING_IDENTITY_TOKEN_INVALID),
        (token("u2"), EventWarning.WARNING_IDENTITY_TOKEN_SUBJECT),
    ],
)
async def test_an_identity_token_that_proves_nothing_is_a_warning(
    admission: Admission, identity_token: str, warning: EventWarning.ValueType
) -> None:
    """Fails open: a token can only raise the assurance, so the event is kept as asserted, whatever is wrong with it."""
    request = decoded({**with_token("u1", identity_token), "messageId": "m"}, {"userId": "u1", "messageId": "n"})
    assert await proven(admission, request) == frozenset()
    assert [event.warnings for event in request.events] == [[warning], []]


async def test_bad_tokens_cannot_keep_the_gateway_busy(admission: Admission) -> None:
    """Each token of a request is checked once, and after sixteen bad ones no other, not even a good one."""
    twice = decoded(
        with_token("u1", "bad"), *(with_token("u1", token("u1")) for _ in range(2)), with_token("u1", "bad")
    )
    assert await proven(admission, twice) == {1, 2}
    storm = [with_token("u1", f"{token('u1')}{number}") for number in range(2_000)]
    began = time.monotonic()
    assert await proven(admission, decoded(*storm, with_token("u2", token("u2")))) == frozenset()
    assert time.monotonic() - began < 1.0


async def test_a_token_for_nobody_does_not_prove_an_event_without_user(admission: Admission) -> None:
    """An empty user id equals no subject."""
    request = decoded({"anonymousId": "a", "context": {"identityToken": token("u1")}})
    assert await proven(admission, request) == frozenset()
    assert await proven(admission, decoded({"anonymousId": "a"}), token("u1")) == frozenset()


async def test_an_administrator_needs_the_scope(admission: Admission) -> None:
    """No token, a broken one, and one without the scope are three different refusals."""
    with pytest.raises(MissingCredentials):
        await admission.administrator(Credentials("k1"), "clew.admin")
    with pytest.raises(InvalidToken):
        await admission.administrator(Credentials("", "nonsense"), "clew.admin")
    with pytest.raises(InsufficientScope):
        await admission.administrator(Credentials("", token("ops", scopes=["clew.administrator"])), "clew.admin")
    claims = await admission.administrator(Credentials("", token("ops", scopes=["clew.admin"])), "clew.admin")
    assert claims.subject == "ops"
