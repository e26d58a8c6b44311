"""What of a message may stand in a log."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from clew.identity.v1 import identifier_pb2, identity_service_pb2, profile_pb2
from clew.options.v1 import privacy_pb2
from clew.options.v1.privacy_pb2 import DataCategory
from mesh.redaction import MAX_ITEMS, redact

GEN = Path(__file__).parents[2] / "gen"
SECRET = "\u2021"  # in every text that must not be shown, and in none that may
SHOWN = {DataCategory.DATA_CATEGORY_OPERATIONAL, DataCategory.DATA_CATEGORY_PSEUDONYMOUS_ID}
DEPTH = 3


def _message_types() -> list[Descriptor]:
    """Every message of our packages."""
    paths = sorted(path.relative_to(GEN).with_suffix("") for path in (GEN / "clew").rglob("*_pb2.py"))
    files = [importlib.import_module(".".join(path.parts)).DESCRIPTOR for path in paths]
    return [message for file in files for message in file.message_types_by_name.values()]


def _is_shown(field: FieldDescriptor) -> bool:
    category: DataCategory.ValueType = field.GetOptions().Extensions[privacy_pb2.privacy].category
    return category in SHOWN


def _scalar(field: FieldDescriptor, *, shown: bool) -> Any:
    """A value for a field: recognisable wherever it must not be shown."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return SECRET.encode()
        case FieldDescriptor.CPPTYPE_STRING:
            return "plain" if shown else SECRET + "secret"
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            return 1
        case _:
            return 1 if shown else 987_654


def _fill(message: Any, depth: int = DEPTH, *, outer_shown: bool = False) -> None:
    """Set every field, as deep as messages are nested; a Timestamp is as visible as the field that holds it."""
    for field in message.DESCRIPTOR.fields:
        shown = _is_shown(field) if field.file.package.startswith("clew.") else outer_shown
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = _scalar(field.message_type.fields_by_name["value"], shown=shown)
            getattr(message, field.name)["key" if shown else SECRET] = value
        elif field.message_type is not None and depth:
            value = getattr(message, field.name)
            _fill(value.add() if field.is_repeated else value, depth - 1, outer_shown=shown)
        elif field.message_type is None and field.is_repeated:
            getattr(message, field.name).append(_scalar(field, shown=shown))
        elif field.message_type is None:
            setattr(message, field.name, _scalar(field, shown=shown))


def _new(descriptor: Descriptor) -> Message:
    return message_factory.GetMessageClass(descriptor)()


@pytest.mark.parametrize("descriptor", _message_types(), ids=lambda descriptor: descriptor.full_name)
def test_hidden_values_are_never_shown(descriptor: Descriptor) -> None:
    """For every message of every contract: no value of a field that is neither operational nor pseudonymous appears."""
    message = _new(descriptor)
    _fill(message)
    shown = str(redact(message))
    assert SECRET not in shown
    assert "987654" not in shown


@given(st.text(min_size=3), st.text(min_size=3), st.binary(min_size=3))
def test_no_text_survives(secret: str, subject: str, noise: bytes) -> None:
    """Whatever a client sends, credentials and identifiers of persons are replaced as a whole."""
    request = identity_service_pb2.IssueTokenRequest(client_id="c", client_secret=secret, subject=subject)
    assert redact(request) == {"client_id": "c", "client_secret": "[credential]", "subject": "[direct_id]"}
    parsed = identity_service_pb2.IssueTokenRequest()
    try:
        parsed.ParseFromString(noise)
    except Exception:  # noqa: BLE001 - only what parses can be logged
        return
    assert set(redact(parsed).values()) >= set()


def test_operational_values_stay() -> None:
    """Facts about the machinery keep their value: enums by name, times as JSON writes them."""
    request = identity_service_pb2.IssueTokenRequest(scopes=["a", "b"])
    request.lifetime.FromSeconds(60)
    assert redact(request) == {"scopes": ["a", "b"], "lifetime": "60s"}
    result = identity_service_pb2.ResolvedIdentity(
        profile_id="p", assurance=identifier_pb2.ASSURANCE_VERIFIED, conflict=True
    )
    assert redact(result) == {"profile_id": "p", "assurance": "ASSURANCE_VERIFIED", "conflict": True}


def test_nested_messages_follow_their_own_fields() -> None:
    """A message within a message is shown by the options of its fields."""
    response = identity_service_pb2.GetProfileResponse()
    response.profile.profile_id = "p"
    response.profile.identifiers.add(assurance=identifier_pb2.ASSURANCE_ASSERTED).first_seen_time.FromSeconds(1)
    assert redact(response) == {
        "profile": {
            "profile_id": "p",
            "identifiers": [{"assurance": "ASSURANCE_ASSERTED", "first_seen_time": "[behavior]"}],
        }
    }


def test_lists_are_cut() -> None:
    """A log line is no place for a batch."""
    shown = redact(profile_pb2.Profile(merged_profile_ids=[str(number) for number in range(100)]))
    assert shown == {"merged_profile_ids": [*map(str, range(MAX_ITEMS)), "... and 92 more"]}


def test_foreign_messages_are_hidden() -> None:
    """A field without the option is not shown: nobody has said that it may be."""
    assert redact(privacy_pb2.Privacy(category=DataCategory.DATA_CATEGORY_NETWORK)) == {"category": "[unspecified]"}
