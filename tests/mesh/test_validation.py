"""The contract's constraints."""

import pytest

from clew.admin.v1 import source_pb2, source_service_pb2
from clew.consent.v1 import consent_pb2, consent_service_pb2
from clew.identity.v1 import identity_service_pb2
from clew.options.v1 import privacy_pb2
from mesh.errors import InvalidArgument
from mesh.validation import validate, warm


def _refusal(message: consent_service_pb2.BatchCheckConsentsRequest) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        validate(message)
    return caught.value


def test_a_valid_message_passes() -> None:
    """What keeps the contract is not touched."""
    validate(consent_service_pb2.ListConsentHistoryRequest(workspace="w", subject="s"))


def test_the_first_violation_is_named() -> None:
    """The refusal names field, rule and detail, and counts the others."""
    query = consent_service_pb2.ConsentQuery(merged_subjects=["x", "y" * 65])
    error = _refusal(consent_service_pb2.BatchCheckConsentsRequest(items=[query]))
    assert error.metadata == {"field": "workspace", "rule": "string.min_len"}
    assert error.detail == "must be at least 1 characters (and 2 more violations)"


def test_what_is_absent_is_named_in_words() -> None:
    """Whoever reads only the detail learns what to add."""
    with pytest.raises(InvalidArgument, match=r": update_mask is required$"):
        validate(source_service_pb2.UpdateSourceRequest(source=source_pb2.Source(workspace="w", name="n")))


def test_paths_name_items() -> None:
    """A field of an item is named with its index."""
    items = [consent_service_pb2.ConsentQuery(subject="s"), consent_service_pb2.ConsentQuery(subject="y" * 65)]
    error = _refusal(consent_service_pb2.BatchCheckConsentsRequest(workspace="w", items=items))
    assert error.metadata["field"] == "items[1].subject"


def test_keys_of_maps_are_not_shown() -> None:
    """A map's key is what a client sent, so the path does not repeat it."""
    query = consent_service_pb2.ConsentQuery(subject="s", category_preferences={"private" * 50: True})
    error = _refusal(consent_service_pb2.BatchCheckConsentsRequest(workspace="w", items=[query]))
    assert error.metadata["field"] == "items[0].category_preferences[*]"
    assert "private" not in str(error)


def test_custom_rules() -> None:
    """A rule of our own is named by its id and explained by its message."""
    choice = consent_pb2.PurposeChoice(purpose=privacy_pb2.PURPOSE_ANALYTICS, choice=consent_pb2.CHOICE_GRANTED)
    request = consent_service_pb2.RecordConsentRequest(workspace="w", subject="s", origin="o", choices=[choice, choice])
    with pytest.raises(InvalidArgument, match="each purpose may be named once") as caught:
        validate(request)
    assert caught.value.metadata["rule"] == "record_consent.unique_purposes"


def test_warming_refuses_nothing() -> None:
    """Constraints are compiled by checking empty messages, whose violations do not matter."""
    warm([identity_service_pb2.IssueTokenRequest, consent_service_pb2.BatchCheckConsentsRequest])
