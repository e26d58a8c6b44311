"""The real servicer, over gRPC, as other processes see it."""

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call

from clew.consent.v1 import consent_pb2 as nouns
from clew.consent.v1 import consent_service_pb2 as messages
from clew.consent.v1.consent_pb2 import CHOICE_DENIED, CHOICE_GRANTED
from clew.options.v1.privacy_pb2 import PURPOSE_ANALYTICS, PURPOSE_ESSENTIAL, PURPOSE_MARKETING, Purpose
from mesh.clock import FixedClock


def choice(purpose: Purpose.ValueType, chosen: nouns.Choice.ValueType) -> nouns.PurposeChoice:
    """Make one choice."""
    return nouns.PurposeChoice(purpose=purpose, choice=chosen)


def record(stub: Any, subject: str, *choices: nouns.PurposeChoice, **fields: Any) -> nouns.ConsentRecord:
    """Record choices of a person, each test's persons in a workspace named after them."""
    request = messages.RecordConsentRequest(
        workspace=subject, subject=subject, choices=choices, origin="banner v3", **fields
    )
    entry: nouns.ConsentRecord = stub.RecordConsent(request, timeout=10).record
    return entry


def check(stub: Any, workspace: str, *queries: messages.ConsentQuery) -> list[nouns.ConsentDecision]:
    """Ask for decisions."""
    request = messages.BatchCheckConsentsRequest(workspace=workspace, items=queries)
    return list(stub.BatchCheckConsents(request, timeout=10).decisions)


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


def test_unknown_consent_is_essential_only(grpc_stub: Any) -> None:
    """A person without a record gets the default at epoch 0 of an empty ledger."""
    (decision,) = check(grpc_stub, "empty", messages.ConsentQuery(subject="nobody"))
    assert decision == nouns.ConsentDecision(
        granted_purposes=[PURPOSE_ESSENTIAL], epoch=0, basis=nouns.CONSENT_BASIS_DEFAULT
    )


def test_recorded_consent_decides_the_next_check(grpc_stub: Any, grpc_clock: FixedClock) -> None:
    """The entry comes back as recorded, purposes ascending, dated now; the check that follows obeys it."""
    marketing, analytics = choice(PURPOSE_MARKETING, CHOICE_GRANTED), choice(PURPOSE_ANALYTICS, CHOICE_DENIED)
    entry = record(grpc_stub, "ann", marketing, analytics, policy_version="2025-01")
    now = Timestamp()
    now.FromNanoseconds(grpc_clock.now_ns())
    assert entry == nouns.ConsentRecord(
        epoch=1,
        subject="ann",
        choices=[analytics, marketing],
        origin="banner v3",
        policy_version="2025-01",
        decide_time=now,
        record_time=now,
    )
    (decision,) = check(grpc_stub, "ann", messages.ConsentQuery(subject="ann"))
    assert decision == nouns.ConsentDecision(
        granted_purposes=[PURPOSE_ESSENTIAL, PURPOSE_MARKETING], epoch=1, basis=nouns.CONSENT_BASIS_RECORDED
    )


def test_decisions_answer_items_in_order(grpc_stub: Any) -> None:
    """Merged subjects and preferences work per item; decision i answers item i."""
    record(grpc_stub, "bob", choice(PURPOSE_ANALYTICS, CHOICE_GRANTED))
    decisions = check(
        grpc_stub,
        "bob",
        messages.ConsentQuery(subject="bob", category_preferences={"Analytics": False}),
        messages.ConsentQuery(subject="robert", merged_subjects=["bob"]),
        messages.ConsentQuery(subject="robert", category_preferences={"Analytics": True}),
        messages.ConsentQuery(subject="bob", category_preferences={"What is this": False}),
    )
    assert [list(decision.granted_purposes) for decision in decisions] == [
        [PURPOSE_ESSENTIAL],
        [PURPOSE_ESSENTIAL, PURPOSE_ANALYTICS],
        [PURPOSE_ESSENTIAL],
        [],
    ]
    assert [decision.basis for decision in decisions] == [
        nouns.CONSENT_BASIS_RESTRICTED,
        nouns.CONSENT_BASIS_RECORDED,
        nouns.CONSENT_BASIS_DEFAULT,
        nouns.CONSENT_BASIS_RESTRICTED,
    ]


def test_the_largest_batch_is_answered(grpc_stub: Any) -> None:
    """2,500 items get 2,500 decisions; one more breaks the contract."""
    items = [messages.ConsentQuery(subject=f"visitor-{number}") for number in range(2_500)]
    assert len(check(grpc_stub, "crowd", *items)) == 2_500
    request = messages.BatchCheckConsentsRequest(workspace="crowd", items=[*items, items[0]])
    code, info = refusal(grpc_stub.BatchCheckConsents, request)
    assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "items")


def test_history_is_listed_newest_first_in_pages(grpc_stub: Any) -> None:
    """Pages of the asked size follow each other by their tokens; without a size a page holds 100."""
    for _ in range(101):
        record(grpc_stub, "cleo", choice(PURPOSE_ANALYTICS, CHOICE_GRANTED))
    request = messages.ListConsentHistoryRequest(workspace="cleo", subject="cleo")
    first = grpc_stub.ListConsentHistory(request, timeout=10)
    assert [entry.epoch for entry in first.records] == list(range(101, 1, -1))
    request.page_token, request.page_size = first.next_page_token, 7
    last = grpc_stub.ListConsentHistory(request, timeout=10)
    assert ([entry.epoch for entry in last.records], last.next_page_token) == ([1], "")


def test_a_profile_id_in_capitals_is_the_same_person(grpc_stub: Any) -> None:
    """Some platforms write UUIDs in capitals: a withdrawal spelt so counts, and is in the history."""
    person, merged = "0190a6e2-7a4b-7cde-8f01-23456789abcd", "0190a6e2-7a4b-7cde-8f01-23456789abce"
    for subject, chosen in ((person, CHOICE_GRANTED), (merged.upper(), CHOICE_DENIED), (person.upper(), CHOICE_DENIED)):
        wanted = messages.RecordConsentRequest(
            workspace="capitals", subject=subject, choices=[choice(PURPOSE_ANALYTICS, chosen)], origin="app"
        )
        assert grpc_stub.RecordConsent(wanted, timeout=10).record.subject == subject.lower()
    for query in (
        messages.ConsentQuery(subject=person),
        messages.ConsentQuery(subject=person.upper()),
        messages.ConsentQuery(subject="nobody", merged_subjects=[merged.upper()]),
    ):
        (decision,) = check(grpc_stub, "capitals", query)
        assert list(decision.granted_purposes) == [PURPOSE_ESSENTIAL]
        assert decision.basis == nouns.CONSENT_BASIS_RECORDED
    for spelling in (person, person.upper()):
        asked = messages.ListConsentHistoryRequest(workspace="capitals", subject=spelling)
        assert len(grpc_stub.ListConsentHistory(asked, timeout=10).records) == 2


def test_a_page_token_of_somebody_else_is_refused(grpc_stub: Any) -> None:
    """A token works for its own history only; the refusal names the field."""
    for _ in range(2):
        record(grpc_stub, "dora", choice(PURPOSE_ANALYTICS, CHOICE_GRANTED))
    request = messages.ListConsentHistoryRequest(workspace="dora", subject="dora", page_size=1)
    request.page_token = grpc_stub.ListConsentHistory(request, timeout=10).next_page_token
    request.subject = "eve"
    code, info = refusal(grpc_stub.ListConsentHistory, request)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_ARGUMENT")
    assert info.metadata["field"] == "page_token"


def test_a_decision_in_the_future_is_refused(grpc_stub: Any, grpc_clock: FixedClock) -> None:
    """More than a minute ahead of the service's clock is no time at which somebody can have decided."""
    request = messages.RecordConsentRequest(
        workspace="w", subject="fay", choices=[choice(PURPOSE_ANALYTICS, CHOICE_GRANTED)], origin="test"
    )
    request.decide_time.FromNanoseconds(grpc_clock.now_ns() + 61 * 10**9)
    code, info = refusal(grpc_stub.RecordConsent, request)
    assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "decide_time")
    request.decide_time.FromNanoseconds(grpc_clock.now_ns() + 59 * 10**9)
    assert grpc_stub.RecordConsent(request, timeout=10).record.decide_time == request.decide_time


@pytest.mark.parametrize(
    "choices",
    [
        [],
        [choice(PURPOSE_ANALYTICS, CHOICE_GRANTED), choice(PURPOSE_ANALYTICS, CHOICE_DENIED)],
        [nouns.PurposeChoice(choice=CHOICE_GRANTED)],
        [nouns.PurposeChoice(purpose=PURPOSE_ANALYTICS)],
    ],
    ids=["none", "twice", "no purpose", "no choice"],
)
def test_choices_that_say_nothing_clear_are_refused(grpc_stub: Any, choices: list[nouns.PurposeChoice]) -> None:
    """No choice, a purpose named twice, a choice for nothing or a purpose without a choice never reach the ledger."""
    request = messages.RecordConsentRequest(workspace="void", subject="gil", choices=choices, origin="test")
    code, info = refusal(grpc_stub.RecordConsent, request)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_ARGUMENT")
    history = messages.ListConsentHistoryRequest(workspace="void", subject="gil")
    assert not grpc_stub.ListConsentHistory(history, timeout=10).records
