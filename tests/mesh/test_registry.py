"""The read-only Schema Registry, asked by Confluent's own client, serializer and deserializer."""

import base64
import importlib.resources
import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from clew.enrich.v1.enrichment_pb2 import Enrichment
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from clew.event.v1.failed_event_pb2 import FailedEvent
from mesh.bus.framing import frame_prefix, parse
from mesh.registry import SchemaRegistry
from tests.mesh.registry_server import RegistryServer, serving

EVENTS = "clew.events.v1"
FAILED = "clew.events.failed.v1"
PRIVACY = "clew/options/v1/privacy.proto"
TIMESTAMP = "google/protobuf/timestamp.proto"
CASES = [
    (EVENTS, EnrichedEvent(message_id="m", type=EventType.EVENT_TYPE_TRACK, enrichment=Enrichment())),
    (FAILED, FailedEvent(message_id="m", payload=b"\xff{")),
]


@pytest.fixture(scope="module")
def registry() -> SchemaRegistry:
    """The registry that ships with the contracts."""
    return SchemaRegistry.load(importlib.resources.files("clew") / "registry.json")


@pytest.fixture
def server(registry: SchemaRegistry) -> Iterator[RegistryServer]:
    """The registry over HTTP."""
    with serving(registry) as running:
        yield running


@pytest.fixture
def client(server: RegistryServer) -> Iterator[SchemaRegistryClient]:
    """The stock client."""
    with SchemaRegistryClient.new_client({"url": server.url, "max.retries": 0}) as stock:
        yield stock


def context(topic: str) -> SerializationContext:
    """The value of a topic."""
    return SerializationContext(topic, MessageField.VALUE)


@pytest.mark.parametrize(("topic", "message"), CASES)
def test_a_stock_deserializer_reads_what_we_frame(
    registry: SchemaRegistry,
    server: RegistryServer,
    client: SchemaRegistryClient,
    topic: str,
    message: Message,
) -> None:
    """It fetches the writer's schema by our id and every file that it imports, and comes to an equal message."""
    deserialize = ProtobufDeserializer(type(message), {}, client)
    framed = frame_prefix(registry.schema_id(message.DESCRIPTOR.full_name)) + message.SerializeToString()

    assert deserialize(framed, context(topic)) == message
    identifier = registry.schema_id(message.DESCRIPTOR.full_name)
    assert f"GET /schemas/ids/{identifier}?subject={topic}-value&format=serialized" in server.requests
    assert f"GET /subjects/{quote(PRIVACY, safe='')}/versions/1?deleted=true&format=serialized" in server.requests


@pytest.mark.parametrize("use_latest", [True, False])
@pytest.mark.parametrize(("topic", "message"), CASES)
def test_a_stock_serializer_that_may_not_register_frames_as_we_do(
    registry: SchemaRegistry, client: SchemaRegistryClient, topic: str, message: Message, *, use_latest: bool
) -> None:
    """By the latest version or by looking its own schema and all imports up, it comes to our id."""
    conf = {"auto.register.schemas": False, "use.latest.version": use_latest}
    serialize = ProtobufSerializer(type(message), client, conf)

    framed = serialize(message, context(topic))

    assert parse(framed) == (registry.schema_id(message.DESCRIPTOR.full_name), message.SerializeToString())


def test_a_serializer_that_would_register_is_refused(client: SchemaRegistryClient) -> None:
    """The registry never changes while it runs; the refusal has Confluent's code for it."""
    serialize = ProtobufSerializer(EnrichedEvent, client, {"subject.name.strategy": topic_subject_name_strategy})

    with pytest.raises(SchemaRegistryError) as refused:
        serialize(EnrichedEvent(), context(EVENTS))
    assert (refused.value.http_status_code, refused.value.error_code) == (405, 42205)


def test_the_client_can_walk_everything(registry: SchemaRegistry, client: SchemaRegistryClient) -> None:
    """Types, subjects, versions, ids, importers, compatibility and mode, each through the client's own method."""
    identifier = registry.schema_id("clew.event.v1.EnrichedEvent")
    subject = f"{EVENTS}-value"

    assert client.get_schema_types() == ["PROTOBUF"]
    assert {subject, f"{FAILED}-value", PRIVACY} <= set(client.get_subjects())
    assert client.get_subjects(subject_prefix="clew.events.failed") == [f"{FAILED}-value"]
    assert client.get_subjects_by_schema_id(identifier) == [subject]
    versions = client.get_versions(subject)
    assert versions == list(range(1, len(versions) + 1))
    assert [(use.subject, use.version) for use in client.get_schema_versions(identifier)] == [(subject, versions[-1])]
    assert client.get_latest_version(subject).schema_id == identifier
    assert client.get_version(subject, versions[-1]).schema_id == identifier
    assert identifier in client.get_referenced_by(PRIVACY, 1)
    assert client.get_compatibility() == client.get_compatibility(subject) == "FULL"
    assert client.get_global_mode() == client.get_mode(subject) == "READONLY"
    assert client.get_contexts() == ["."]


def test_a_schema_is_given_as_its_own_text(registry: SchemaRegistry, client: SchemaRegistryClient) -> None:
    """Without a format the proto file comes with its comments, and its imports as references."""
    schema = client.get_schema(registry.schema_id("clew.event.v1.FailedEvent"))

    assert schema.schema_type == "PROTOBUF"
    assert schema.schema_str is not None
    assert schema.schema_str.startswith("// The value of the topic")
    assert schema.references == [SchemaReference(name, name, 1) for name in (PRIVACY, TIMESTAMP)]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subjects/none/versions", 404, 40401),
        ("/subjects/none/versions/1", 404, 40401),
        (f"/subjects/{EVENTS}-value/versions/99", 404, 40402),
        (f"/subjects/{EVENTS}-value/versions/2147483647", 404, 40402),
        (f"/subjects/{EVENTS}-value/versions/2147483648", 422, 42202),
        (f"/subjects/{EVENTS}-value/versions/0", 422, 42202),
        (f"/subjects/{EVENTS}-value/versions/newest", 422, 42202),
        (f"/subjects/{EVENTS}-value/versions/{'9' * 5_000}", 422, 42202),
        ("/schemas/ids/9999", 404, 40403),
        (f"/schemas/ids/{'9' * 5_000}", 404, 40403),
        ("/schemas/ids/one/versions", 404, 40403),
        ("/config/none", 404, 40401),
        ("/mode/none", 404, 40401),
        ("/associations/resources/-/topic", 404, 404),
        ("/elsewhere", 404, 404),
    ],
)
def test_what_is_not_there_has_confluents_error_code(
    registry: SchemaRegistry, path: str, status: int, code: int
) -> None:
    """Clients tell a missing subject, version and schema apart, and take a plain 404 for an older registry."""
    answered, body = registry.handle(path, {})

    assert isinstance(body, dict)
    assert (answered, body["error_code"]) == (status, code)
    assert body["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/subjects/{EVENTS}-value/versions"),
        ("POST", f"/subjects/{quote(PRIVACY, safe='')}/versions/"),
        ("DELETE", f"/subjects/{EVENTS}-value"),
        ("PUT", "/config"),
        ("POST", "/compatibility/subjects"),
    ],
)
def test_every_write_is_refused(registry: SchemaRegistry, method: str, path: str) -> None:
    """405 with the code of a read-only registry."""
    status, body = registry.answer(method, path, {}, b"{}")

    assert isinstance(body, dict)
    assert (status, body["error_code"]) == (405, 42205)


@pytest.mark.parametrize(
    "path", [f"/subjects/{PRIVACY}/versions/1", f"/subjects/{quote(PRIVACY, safe='')}/versions/-1"]
)
def test_a_subject_with_slashes_is_found_encoded_or_not(registry: SchemaRegistry, path: str) -> None:
    """Servers differ in whether they decode the path; -1 is the latest."""
    status, body = registry.handle(path, {})

    assert status == 200
    assert isinstance(body, dict)
    assert (body["subject"], body["version"]) == (PRIVACY, 1)


def test_bare_schema_paths_answer_with_text(registry: SchemaRegistry) -> None:
    """Both ways to the bare schema give the same, and `format=serialized` the descriptor."""
    identifier = registry.schema_id("clew.event.v1.EnrichedEvent")

    _, by_id = registry.handle(f"/schemas/ids/{identifier}/schema", {})
    _, by_version = registry.handle(f"/subjects/{EVENTS}-value/versions/latest/schema", {})
    _, serialized = registry.handle(f"/schemas/ids/{identifier}/schema", {"format": "serialized"})

    assert by_id == by_version
    assert isinstance(serialized, str)
    assert b"clew.event.v1" in base64.b64decode(serialized)


def test_lists_are_cut_by_offset_and_limit(registry: SchemaRegistry) -> None:
    """As clients page through them."""
    _, everything = registry.handle("/subjects", {})
    _, part = registry.handle("/subjects", {"offset": "1", "limit": "2"})

    assert isinstance(everything, list)
    assert part == everything[1:3]
    assert registry.handle("/subjects", {"offset": "9" * 5_000}) == (200, [])
    assert registry.handle("/subjects", {"limit": "9" * 5_000}) == (200, everything)


def test_nothing_was_ever_deleted(registry: SchemaRegistry, client: SchemaRegistryClient) -> None:
    """Who asks for what was deleted and for nothing else gets nothing; who asks for that too gets what there is."""
    subject = f"{EVENTS}-value"

    assert registry.handle("/subjects", {"deletedOnly": "true"}) == (200, [])
    assert registry.handle(f"/subjects/{subject}/versions", {"deletedOnly": "true"}) == (200, [])
    assert client.get_subjects(deleted=True) == client.get_subjects()


def test_a_schema_is_looked_up_by_text_whatever_its_comments(registry: SchemaRegistry) -> None:
    """Comments and white space make no other schema; another subject or other references do."""
    _, latest = registry.handle(f"/subjects/{FAILED}-value/versions/latest", {})
    assert isinstance(latest, dict)
    text = latest["schema"].replace("\n", "\n\n  // more\n")

    assert _lookup(registry, f"{FAILED}-value", {"schema": text}) == (200, latest["id"])
    assert _lookup(registry, f"{FAILED}-value", {"schema": text, "references": latest["references"]})[0] == 200
    elsewhere = [{**latest["references"][0], "version": 7}]
    assert _lookup(registry, f"{FAILED}-value", {"schema": text, "references": elsewhere}) == (404, 40403)
    assert _lookup(registry, f"{EVENTS}-value", {"schema": text}) == (404, 40403)
    assert _lookup(registry, "none", {"schema": text}) == (404, 40401)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"schema": "x", "references": [{}]}',
        b'{"schema": "x", "references": [{"name": "a", "subject": "b", "version": 1e999}]}',
        b"[" * 100_000,
    ],
)
def test_a_lookup_without_a_schema_is_a_bad_request(registry: SchemaRegistry, body: bytes) -> None:
    """What is no JSON object with a schema cannot be looked up."""
    status, answer = registry.answer("POST", f"/subjects/{EVENTS}-value", {}, body)

    assert isinstance(answer, dict)
    assert (status, answer["error_code"]) == (400, 42201)


@pytest.mark.parametrize("piece", ["/*a", "/* ", "//", "/*", "*/", "\ud800"])
def test_a_hostile_text_is_looked_up_as_fast_as_any_other(registry: SchemaRegistry, piece: str) -> None:
    """The time grows with the text and not with its square: a request of a few hundred KB must not stop a gateway."""
    begun = time.process_time()

    assert _lookup(registry, f"{EVENTS}-value", {"schema": piece * 100_000}) == (404, 40403)
    assert time.process_time() - begun < 5


def test_the_client_asks_what_may_follow(client: SchemaRegistryClient) -> None:
    """By buf's rules, against the newest version or all: whatever would break a reader of it may not."""
    subject = f"{EVENTS}-value"
    newest = client.get_latest_version(subject).schema
    assert client.test_compatibility(subject, newest)

    file = FileDescriptorProto.FromString(EnrichedEvent.DESCRIPTOR.file.serialized_pb)
    grown, broken = FileDescriptorProto(), FileDescriptorProto()
    grown.CopyFrom(file)
    broken.CopyFrom(file)
    grown.message_type[0].field.add(name="more", number=99, type=9, label=1)
    broken.message_type[0].field[0].name = "other"
    assert client.test_compatibility(subject, proto(grown))
    assert client.test_compatibility(subject, proto(grown), "1")
    assert client.test_compatibility_all_versions(subject, proto(grown))
    assert not client.test_compatibility(subject, proto(broken))
    assert not client.test_compatibility_all_versions(subject, proto(broken))
    # A field that came later may not be missing from what follows it, though the first version never had it.
    first = client.get_version(subject, 1, fmt="serialized").schema
    assert client.test_compatibility(subject, first, "1")
    assert not client.test_compatibility(subject, first)
    with pytest.raises(SchemaRegistryError) as unknown:
        client.test_compatibility("none", proto(file))
    assert unknown.value.error_code == 40401


def test_why_a_schema_may_not_follow_is_told(registry: SchemaRegistry) -> None:
    """Asked for, each reason names the field; a text that no version has cannot be compared here."""
    file = FileDescriptorProto.FromString(FailedEvent.DESCRIPTOR.file.serialized_pb)
    del file.message_type[0].field[0]
    path = f"/compatibility/subjects/{FAILED}-value/versions"
    body = json.dumps({"schema": proto(file).schema_str}).encode()

    assert registry.answer("POST", path, {"verbose": "true"}, body) == (
        200,
        {"is_compatible": False, "messages": ["field FailedEvent.message_id (1) was deleted"]},
    )
    status, said = registry.answer("POST", path, {}, json.dumps({"schema": 'syntax = "proto3";'}).encode())
    assert (status, isinstance(said, dict) and said["error_code"]) == (422, 42201)
    assert registry.answer("POST", f"{path}/99", {}, body)[0] == 404
    assert registry.answer("POST", path, {}, b"{}")[0] == 400


def test_a_descriptor_that_no_compiler_made_may_not_follow(registry: SchemaRegistry) -> None:
    """A field of a group that is not there is a change like another, and no fault."""
    file = FileDescriptorProto.FromString(FailedEvent.DESCRIPTOR.file.serialized_pb)
    file.message_type[0].field[0].oneof_index = 7
    body = json.dumps({"schema": proto(file).schema_str}).encode()

    path = f"/compatibility/subjects/{FAILED}-value/versions"
    said = {"is_compatible": False, "messages": ["field FailedEvent.message_id (1) moved from oneof none to number 7"]}
    assert registry.answer("POST", path, {"verbose": "true"}, body) == (200, said)


def test_all_schemas_in_one_list(registry: SchemaRegistry) -> None:
    """Every version of every subject, or the newest ones, of subjects with a prefix."""
    _, everything = registry.handle("/schemas", {})
    _, newest = registry.handle("/schemas", {"latestOnly": "true", "subjectPrefix": EVENTS})
    assert isinstance(everything, list)
    assert isinstance(newest, list)
    assert [one["subject"] for one in newest] == [f"{EVENTS}-value"]
    assert newest[0] in everything
    assert len(everything) == sum(len(ids) for ids in registry.table.subjects.values())


def proto(file: FileDescriptorProto) -> Schema:
    """A schema as Confluent's serializers send it."""
    return Schema(base64.b64encode(file.SerializeToString()).decode(), "PROTOBUF")


def test_an_unknown_message_has_no_schema_id(registry: SchemaRegistry) -> None:
    """A publisher learns at its start that the contracts were not compiled for what it publishes."""
    with pytest.raises(KeyError):
        registry.schema_id("clew.event.v1.Nothing")


def _lookup(registry: SchemaRegistry, subject: str, body: object) -> tuple[int, object]:
    """The status, and the id or the error code."""
    status, answer = registry.answer("POST", f"/subjects/{subject}", {}, json.dumps(body).encode())
    assert isinstance(answer, dict)
    return status, answer.get("id", answer.get("error_code"))
