"""Who it is and what is allowed, seen from outside: events in over HTTP, records out on Kafka."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from clew.consent.v1.consent_pb2 import (
    CHOICE_DENIED,
    CHOICE_GRANTED,
    CONSENT_BASIS_DEFAULT,
    CONSENT_BASIS_RECORDED,
    CONSENT_BASIS_RESTRICTED,
    Choice,
    PurposeChoice,
)
from clew.consent.v1.consent_service_pb2 import RecordConsentRequest
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceStub
from clew.event.v1.event_pb2 import (
    WARNING_IDENTITY_CONFLICT,
    WARNING_IDENTITY_TOKEN_INVALID,
    WARNING_IDENTITY_TOKEN_SUBJECT,
)
from clew.identity.v1.identifier_pb2 import (
    ASSURANCE_ANONYMOUS,
    ASSURANCE_ASSERTED,
    ASSURANCE_VERIFIED,
    IDENTIFIER_KIND_USER_ID,
    Identifier,
)
from clew.identity.v1.identity_service_pb2 import GetProfileRequest
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from clew.identity.v1.profile_pb2 import Profile
from clew.options.v1.privacy_pb2 import (
    PURPOSE_ADVERTISING,
    PURPOSE_ANALYTICS,
    PURPOSE_ESSENTIAL,
    PURPOSE_MARKETING,
    Purpose,
)
from mesh.ids import new_id
from tests.support.mesh import RunningMesh

_SECONDS = 10


class People:
    """Sends single events and reads back what became of them; all names are of one test only."""

    def __init__(self, mesh: RunningMesh) -> None:
        self._mesh = mesh
        self._run = new_id()

    def name(self, name: str) -> str:
        """A name that no other test uses."""
        return f"{name}-{self._run}"

    def does(self, *, bearer: str = "", kind: str = "track", **members: Any) -> Any:
        """Send an event; the message of its record."""
        message_id = new_id()
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        event = {"type": kind, "event": "Looked", "messageId": message_id, **members}
        answer = self._mesh.edge.post(event, headers=headers)
        assert answer.status == 200, answer.body
        assert answer.verdicts == ["accepted"], answer.body
        return self._mesh.events.one(message_id).message

    def chooses(self, subject: str, **choices: Choice.ValueType) -> int:
        """Record a person's choices, purposes by their short names; the epoch."""
        request = RecordConsentRequest(
            workspace="main",
            subject=subject,
            origin="a test",
            choices=[
                PurposeChoice(purpose=Purpose.Value(f"PURPOSE_{name.upper()}"), choice=choice)
                for name, choice in choices.items()
            ],
        )
        with grpc.insecure_channel(self._mesh.endpoints.grpc["consent"]) as channel:
            return int(ConsentServiceStub(channel).RecordConsent(request, timeout=_SECONDS).record.epoch)


@pytest.fixture
def people(mesh: RunningMesh) -> People:
    """Somebody new."""
    return People(mesh)


def _profile(mesh: RunningMesh, user_id: str) -> Profile:
    identifier = Identifier(kind=IDENTIFIER_KIND_USER_ID, value=user_id)
    with grpc.insecure_channel(mesh.endpoints.grpc["identity"]) as channel:
        request = GetProfileRequest(workspace="main", identifier=identifier)
        return IdentityServiceStub(channel).GetProfile(request, timeout=_SECONDS).profile


def _signed(mesh: RunningMesh, subject: str, *, expires_in: int) -> str:
    """A token by the mesh's own key, as the identity service would have issued it at another time."""
    own = jwt.decode(mesh.token(subject), options={"verify_signature": False})
    header = jwt.get_unverified_header(mesh.token(subject))
    key = (mesh.data_dir / "identity" / "signing_key.pem").read_text()
    now = int(time.time())
    claims = {**own, "iat": now + expires_in - 600, "exp": now + expires_in, "jti": new_id()}
    return jwt.encode(claims, key, "ES256", headers={"kid": header["kid"], "typ": header["typ"]})


# Identity


def test_a_visitor_who_signs_up_keeps_the_profile(people: People) -> None:
    """A known visitor and a new user id are one profile from the first event that carries both."""
    visitor, user = people.name("visitor"), people.name("user")
    before = people.does(anonymousId=visitor)
    login = people.does(kind="identify", anonymousId=visitor, userId=user)
    elsewhere = people.does(userId=user)
    assert before.profile_id == login.profile_id == elsewhere.profile_id
    assert (before.assurance, login.assurance) == (ASSURANCE_ANONYMOUS, ASSURANCE_ASSERTED)


def test_a_login_merges_a_known_visitor_into_a_known_user(mesh: RunningMesh, people: People) -> None:
    """Two profiles become the user's one; the visitor's events continue there, and it says what was merged."""
    visitor, user = people.name("visitor"), people.name("user")
    as_visitor = people.does(anonymousId=visitor).profile_id
    as_user = people.does(userId=user).profile_id
    assert as_visitor != as_user
    assert people.does(kind="identify", anonymousId=visitor, userId=user).profile_id == as_user
    assert people.does(anonymousId=visitor).profile_id == as_user
    profile = _profile(mesh, user)
    assert list(profile.merged_profile_ids) == [as_visitor]
    assert {entry.identifier.value for entry in profile.identifiers} == {visitor, user}


def test_two_users_on_one_device_stay_two(people: People) -> None:
    """A device that a second user logs in from keeps its first user; the second's events carry a conflict warning."""
    device, first, second = people.name("device"), people.name("first"), people.name("second")
    of_first = people.does(kind="identify", anonymousId=device, userId=first)
    of_second = people.does(kind="identify", anonymousId=device, userId=second)
    assert of_first.profile_id != of_second.profile_id
    assert (list(of_first.warnings), list(of_second.warnings)) == ([], [WARNING_IDENTITY_CONFLICT])
    assert people.does(userId=second).profile_id == of_second.profile_id
    assert people.does(anonymousId=device).profile_id == of_first.profile_id


def test_alias_joins_an_old_visitor_and_never_another_user(people: People) -> None:
    """Alias ties a previous anonymous id to the user; a previous id that is another user's stays that user's."""
    old, user, other = people.name("old-phone"), people.name("user"), people.name("other")
    before = people.does(anonymousId=old)
    alias = people.does(kind="alias", previousId=old, userId=user)
    assert people.does(anonymousId=old).profile_id == alias.profile_id == before.profile_id
    of_other = people.does(userId=other)
    refused = people.does(kind="alias", previousId=other, userId=user)
    assert WARNING_IDENTITY_CONFLICT in refused.warnings
    assert people.does(userId=other).profile_id == of_other.profile_id != refused.profile_id


# Tokens


def test_a_bearer_token_proves_its_own_subject_only(mesh: RunningMesh, people: People) -> None:
    """Events of the bearer token's subject are verified, those of another user in the same request asserted."""
    user, other = people.name("user"), people.name("other")
    token = mesh.token(user)
    assert people.does(bearer=token, userId=user).assurance == ASSURANCE_VERIFIED
    assert people.does(bearer=token, userId=other).assurance == ASSURANCE_ASSERTED
    assert people.does(bearer=token, anonymousId=people.name("visitor")).assurance == ASSURANCE_ANONYMOUS


def test_an_identity_token_proves_the_event_that_carries_it(mesh: RunningMesh, people: People) -> None:
    """A token in the context, where unmodified libraries can put it, verifies that event and leaves no trace in it."""
    user = people.name("user")
    event = people.does(userId=user, context={"identityToken": mesh.token(user), "locale": "en-GB"})
    assert event.assurance == ASSURANCE_VERIFIED
    assert not event.warnings
    assert event.context.locale == "en-GB"
    assert not event.context.extra_json
    assert people.does(userId=user).assurance == ASSURANCE_ASSERTED


def test_a_token_that_does_not_prove_the_user_costs_the_proof_only(mesh: RunningMesh, people: People) -> None:
    """With another's token, an expired one or none at all in its place an event is asserted and says why."""
    user = people.name("user")
    cases = {
        mesh.token(people.name("other")): WARNING_IDENTITY_TOKEN_SUBJECT,
        _signed(mesh, user, expires_in=-60): WARNING_IDENTITY_TOKEN_INVALID,
        "no token": WARNING_IDENTITY_TOKEN_INVALID,
    }
    for token, warning in cases.items():
        event = people.does(userId=user, context={"identityToken": token})
        assert (event.assurance, list(event.warnings)) == (ASSURANCE_ASSERTED, [warning])
    still_good = people.does(userId=user, context={"identityToken": _signed(mesh, user, expires_in=60)})
    assert still_good.assurance == ASSURANCE_VERIFIED


@pytest.mark.parametrize("kind", ["expired", "foreign", "unsigned", "nonsense"])
def test_a_request_whose_bearer_token_does_not_hold_is_refused(mesh: RunningMesh, people: People, kind: str) -> None:
    """An expired, foreign, unsigned or unreadable bearer token is 401 with a reason, and nothing of it is kept."""
    user = people.name("user")
    claims = jwt.decode(mesh.token(user), options={"verify_signature": False})
    token = {
        "expired": _signed(mesh, user, expires_in=-60),
        "foreign": jwt.encode(claims, "a secret that only somebody else has", "HS256"),
        "unsigned": jwt.encode(claims, "", "none"),
        "nonsense": "x.y.z",
    }[kind]
    message_id = new_id()
    event = {"type": "track", "event": "Looked", "userId": user, "messageId": message_id}
    answer = mesh.edge.post(event, headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 401, answer.body
    assert answer.json["code"] == "INVALID_TOKEN"
    assert answer.json["message"]
    assert message_id not in {record.message.message_id for record in mesh.events.now()}


def test_a_token_is_never_stored(mesh: RunningMesh, people: People) -> None:
    """The text of a token, good or bad, by header or in an event, is in no record, log, span or database."""
    user = people.name("user")
    tokens = [mesh.token(user) for _ in range(4)]
    people.does(bearer=tokens[0], userId=user)
    people.does(userId=user, context={"identityToken": tokens[1]})
    people.does(userId=people.name("other"), context={"identityToken": tokens[2]})
    broken = {"type": "shrug", "userId": user, "messageId": new_id(), "context": {"identityToken": tokens[3]}}
    assert mesh.edge.post(broken).verdicts == ["rejected"]
    assert b"identityToken" in mesh.failed.one(str(broken["messageId"])).raw
    time.sleep(0.3)  # spans leave their process after 100 ms
    stored = {f"{record.partition}@{record.offset}": record for record in (*mesh.events.now(), *mesh.failed.now())}
    parts = [part.encode() for token in tokens for part in token.split(".")[1:]]
    for place, record in stored.items():
        text = record.raw + json.dumps(record.headers).encode()
        assert not any(part in text for part in parts), f"a token is in a record: {place}"
    for file in _files(mesh.data_dir):
        assert not any(part in file.read_bytes() for part in parts), f"a token is in {file}"


def _files(folder: Path) -> Iterator[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert kinds >= {".db", ".log", ".jsonl"}, "nothing to search"
    yield from files


# Consent


def test_unknown_consent_grants_the_essential_only(people: People) -> None:
    """Of somebody who never chose, a record says that only the essential purpose is allowed, and by default."""
    event = people.does(anonymousId=people.name("visitor"))
    assert list(event.consent.granted_purposes) == [PURPOSE_ESSENTIAL]
    assert (event.consent.basis, event.consent.epoch) == (CONSENT_BASIS_DEFAULT, 0)


def test_a_recorded_choice_holds_from_the_next_event_on(people: People) -> None:
    """A grant and its withdrawal each change the very next event, which names the epoch that it was decided at."""
    visitor = people.name("visitor")
    profile = people.does(anonymousId=visitor).profile_id
    granted_at = people.chooses(profile, analytics=CHOICE_GRANTED, marketing=CHOICE_GRANTED)
    event = people.does(anonymousId=visitor)
    assert set(event.consent.granted_purposes) == {PURPOSE_ESSENTIAL, PURPOSE_ANALYTICS, PURPOSE_MARKETING}
    assert (event.consent.basis, event.consent.epoch) == (CONSENT_BASIS_RECORDED, granted_at)
    withdrawn_at = people.chooses(profile, analytics=CHOICE_DENIED)
    event = people.does(anonymousId=visitor)
    assert set(event.consent.granted_purposes) == {PURPOSE_ESSENTIAL, PURPOSE_MARKETING}
    assert event.consent.epoch == withdrawn_at > granted_at


def test_a_choice_outlives_the_merge_of_its_profile(people: People) -> None:
    """What somebody denied as a visitor holds when the visitor turns out to be a known user."""
    visitor, user = people.name("visitor"), people.name("user")
    people.chooses(people.does(userId=user).profile_id, analytics=CHOICE_GRANTED, marketing=CHOICE_GRANTED)
    people.chooses(people.does(anonymousId=visitor).profile_id, analytics=CHOICE_DENIED)
    event = people.does(kind="identify", anonymousId=visitor, userId=user)
    assert set(event.consent.granted_purposes) == {PURPOSE_ESSENTIAL, PURPOSE_MARKETING}


def test_category_preferences_restrict_and_never_add(people: People) -> None:
    """Preferences that a library presents take purposes away; what was never granted is not granted by them."""
    visitor = people.name("visitor")
    profile = people.does(anonymousId=visitor).profile_id
    people.chooses(profile, analytics=CHOICE_GRANTED, advertising=CHOICE_GRANTED)

    def granted(preferences: object) -> set[int]:
        context = {"consent": {"categoryPreferences": preferences}}
        return set(people.does(anonymousId=visitor, context=context).consent.granted_purposes)

    assert granted({"Analytics": False, "Advertising": True}) == {PURPOSE_ESSENTIAL, PURPOSE_ADVERTISING}
    assert PURPOSE_MARKETING not in granted({"Marketing": True})
    event = people.does(anonymousId=visitor, context={"consent": {"categoryPreferences": {"Analytics": False}}})
    assert event.consent.basis == CONSENT_BASIS_RESTRICTED


def test_what_is_refused_is_filtered_counted_and_never_published(mesh: RunningMesh, people: People) -> None:
    """An event of somebody who denied everything has the verdict filtered, is counted, and is on no topic."""
    visitor = people.name("visitor")
    profile = people.does(anonymousId=visitor).profile_id
    everything = {name.removeprefix("PURPOSE_").lower(): CHOICE_DENIED for name in Purpose.keys()[1:]}
    people.chooses(profile, **everything)
    before = mesh.stats()
    refused = {"type": "page", "anonymousId": visitor, "messageId": new_id()}
    allowed = {"type": "page", "anonymousId": people.name("somebody-else"), "messageId": new_id()}
    answer = mesh.edge.post(refused, allowed)
    assert (answer.status, answer.verdicts) == (200, ["filtered", "accepted"])
    assert answer.json["events"][0]["reason"] == "consent"
    after = mesh.stats()
    grown = {name: after[name] - before[name] for name in ("received", "accepted", "filtered", "rejected")}
    assert grown == {"received": 2, "accepted": 1, "filtered": 1, "rejected": 0}
    row = {"source": "default", "verdict": "filtered", "reason": "consent"}
    assert any(row.items() <= entry.items() for entry in after["by_source"])
    mesh.events.one(allowed["messageId"])
    topics = (*mesh.events.now(), *mesh.failed.now())
    assert refused["messageId"] not in {record.message.message_id for record in topics}


def test_unreadable_preferences_refuse_everything(mesh: RunningMesh, people: People) -> None:
    """Preferences that cannot be read fail closed: the event is filtered."""
    context = {"consent": {"categoryPreferences": "yes to all"}}
    event = {"type": "page", "anonymousId": people.name("visitor"), "messageId": new_id(), "context": context}
    assert mesh.edge.post(event).verdicts == ["filtered"]


# Administration


def test_the_counts_are_for_administrators(mesh: RunningMesh, people: People) -> None:
    """The stats endpoint takes a token with the admin scope: 401 without or with a bad one, 403 without the scope."""

    def ask(headers: dict[str, str]) -> tuple[int, str]:
        answer = mesh.edge.get("/v1/admin/stats", headers)
        return answer.status, answer.json.get("code", "")

    assert ask({}) == (401, "MISSING_CREDENTIALS")
    assert ask({"X-Write-Key": mesh.endpoints.write_key}) == (401, "MISSING_CREDENTIALS")
    assert ask({"Authorization": "Bearer x.y.z"}) == (401, "INVALID_TOKEN")
    assert ask({"Authorization": f"Bearer {mesh.token(people.name('user'))}"}) == (403, "INSUFFICIENT_SCOPE")
    assert ask({"Authorization": f"Bearer {mesh.endpoints.admin_token}"}) == (200, "")


def test_received_is_the_sum_of_what_became_of_it(mesh: RunningMesh) -> None:
    """The counts add up: nothing that was received is unaccounted for."""
    stats = mesh.stats()
    parts = ("accepted", "duplicate", "rejected", "filtered", "unanswered", "in_flight")
    assert stats["received"] == sum(stats[name] for name in parts) > 0


@pytest.mark.parametrize(
    ("headers", "code"), [({}, "MISSING_CREDENTIALS"), ({"X-Write-Key": "?"}, "UNKNOWN_WRITE_KEY")]
)
def test_a_stranger_is_refused(mesh: RunningMesh, headers: dict[str, str], code: str) -> None:
    """Without a write key that belongs to a source the answer is 401, a problem with `code` and `message`."""
    body = json.dumps({"batch": [{"type": "page", "anonymousId": "a"}]}).encode()
    answer = mesh.edge.send("POST", "/v1/batch", body, {"Content-Type": "application/json", **headers})
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"] == code
    assert answer.json["message"]
