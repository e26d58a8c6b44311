"""Purpose in the contract: each field says what it holds and what it may be used for."""

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from clew.options.v1 import privacy_pb2

OPTIONS_PACKAGE = "clew.options.v1"

# The topics, each with the one message that is its value.
TOPIC_VALUES = {
    "clew.events.v1": "clew.event.v1.EnrichedEvent",
    "clew.events.failed.v1": "clew.event.v1.FailedEvent",
    "clew.profiles.v1": "clew.identity.v1.ProfileChanged",
    "clew.audit.v1": "clew.audit.v1.AuditEntry",
}


@pytest.fixture(scope="module")
def fields(contract_messages: list[Descriptor]) -> list[FieldDescriptor]:
    """Every field that must be classified."""
    return [
        field for message in contract_messages for field in message.fields if message.file.package != OPTIONS_PACKAGE
    ]


def privacy(field: FieldDescriptor) -> privacy_pb2.Privacy:
    """The classification of a field."""
    return field.GetOptions().Extensions[privacy_pb2.privacy]


def names(found: list[FieldDescriptor]) -> list[str]:
    """Full names, so that a failure lists what to classify."""
    return [field.full_name for field in found]


def test_all_packages_are_looked_at(
    contract_files: list[FileDescriptor], contract_sources: dict[str, FileDescriptorProto]
) -> None:
    """The generated code that is checked here covers every file of the sources, and none is empty of meaning."""
    assert {file.name for file in contract_files} == set(contract_sources)


def test_every_field_has_a_category(fields: list[FieldDescriptor]) -> None:
    """A field without a data category is refused: redaction and erasure would not know what to do with it."""
    unclassified = [field for field in fields if privacy(field).category == privacy_pb2.DATA_CATEGORY_UNSPECIFIED]
    assert names(unclassified) == []


def test_every_field_has_a_purpose(fields: list[FieldDescriptor]) -> None:
    """A field that may serve no purpose has no reason to exist."""
    assert names([field for field in fields if not privacy(field).purposes]) == []


def test_purposes_are_known_and_named_once(fields: list[FieldDescriptor]) -> None:
    """Purposes stand in ascending order, each once and none unspecified, so that two fields compare at a glance."""
    odd = [
        field
        for field in fields
        if list(privacy(field).purposes) != sorted(set(privacy(field).purposes) - {privacy_pb2.PURPOSE_UNSPECIFIED})
    ]
    assert names(odd) == []


def test_credentials_serve_no_purpose_but_essential(fields: list[FieldDescriptor]) -> None:
    """A secret proves an identity and is of no other use."""
    credentials = [field for field in fields if privacy(field).category == privacy_pb2.DATA_CATEGORY_CREDENTIAL]
    assert credentials
    assert (
        names([field for field in credentials if list(privacy(field).purposes) != [privacy_pb2.PURPOSE_ESSENTIAL]])
        == []
    )


def test_topic_values_hold_no_credentials(contract_messages: list[Descriptor]) -> None:
    """No secret can be published: what a topic's value holds, at any depth, is never a credential."""
    by_name = {message.full_name: message for message in contract_messages}

    def reachable(message: Descriptor, seen: set[str]) -> set[str]:
        seen.add(message.full_name)
        for field in message.fields:
            inner = field.message_type
            if inner is not None and inner.full_name in by_name and inner.full_name not in seen:
                reachable(inner, seen)
        return seen

    held = set().union(*(reachable(by_name[name], set()) for name in TOPIC_VALUES.values()))
    secrets = [
        field
        for name in held
        for field in by_name[name].fields
        if privacy(field).category == privacy_pb2.DATA_CATEGORY_CREDENTIAL
    ]
    assert names(secrets) == []


@pytest.mark.parametrize("name", TOPIC_VALUES.values(), ids=TOPIC_VALUES)
def test_the_value_of_a_topic_is_the_first_message_of_its_file(name: str, contract_messages: list[Descriptor]) -> None:
    """The message index in Kafka's wire format is then 0, so that every record begins with the same six bytes."""
    message = next(message for message in contract_messages if message.full_name == name)
    assert message.file.message_types_by_name
    assert next(iter(message.file.message_types_by_name.values())) == message


def test_topics_are_those_that_the_sources_name(contract_sources: dict[str, FileDescriptorProto]) -> None:
    """A file that holds a topic's value says so in its first line, and is listed here."""
    syntax_path = [12]
    headers = {
        file.name: location.leading_comments.strip()
        for file in contract_sources.values()
        for location in file.source_code_info.location
        if list(location.path) == syntax_path
    }
    named = {text.split("`")[1] for text in headers.values() if text.startswith("The value of the topic")}
    assert named == set(TOPIC_VALUES)
