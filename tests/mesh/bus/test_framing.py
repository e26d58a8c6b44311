"""The Schema Registry wire format, with Confluent's own serializer and deserializer as oracles."""

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from mesh.bus.framing import FramingError, frame_prefix, parse, split

VALUE = SerializationContext("topic", MessageField.VALUE)
SCHEMA_IDS = st.integers(0, 2**32 - 1)
INDICES = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def registry() -> SchemaRegistryClient:
    """Confluent's in-memory registry, which gives out real ids."""
    client = SchemaRegistryClient.new_client({"url": "mock://framing"})
    for taken in range(200):  # so that the ids under test need more than one byte's luck
        client.register_schema(f"filler-{taken}", Schema(f'syntax = "proto3"; message M{taken} {{}}', "PROTOBUF"))
    return client


@pytest.mark.parametrize(
    "message",
    [
        EnrichedEvent(message_id="m-1", workspace="w"),
        FailedEvent(message_id="m-2", payload=b"\x00\xff"),
        # The second message of its file, and one within another.
        descriptor_pb2.FileDescriptorProto(name="a.proto"),
        descriptor_pb2.DescriptorProto.ExtensionRange(start=1, end=2),
    ],
)
def test_framing_equals_what_confluents_serializer_writes(registry: SchemaRegistryClient, message: Message) -> None:
    """Byte for byte, for first messages of a file, later ones and nested ones."""
    serializer = ProtobufSerializer(type(message), registry)
    theirs = serializer(message, VALUE)

    framed = split(theirs)

    assert framed.payload == message.SerializeToString()
    assert frame_prefix(framed.schema_id, framed.message_index) + framed.payload == theirs
    assert parse(theirs) == (framed.schema_id, framed.payload)


@given(
    schema_id=SCHEMA_IDS,
    message_id=st.text(max_size=40),
    properties=st.text(max_size=200),
)
def test_confluents_deserializer_reads_what_we_frame(schema_id: int, message_id: str, properties: str) -> None:
    """Any event behind our prefix comes back equal."""
    event = EnrichedEvent(message_id=message_id, properties_json=properties)
    deserialize = ProtobufDeserializer(EnrichedEvent, {"use.deprecated.format": False})

    assert deserialize(frame_prefix(schema_id) + event.SerializeToString(), VALUE) == event


@given(schema_id=SCHEMA_IDS, index=INDICES, payload=st.binary(max_size=64))
def test_what_is_framed_is_taken_apart_again(schema_id: int, index: list[int], payload: bytes) -> None:
    """Id, index and payload survive, whatever they are."""
    assert split(frame_prefix(schema_id, index) + payload) == (schema_id, tuple(index), payload)


def test_the_first_message_of_a_file_costs_six_bytes() -> None:
    """The commonest index is a single zero byte."""
    assert frame_prefix(258) == b"\x00\x00\x00\x01\x02\x00"


def test_an_index_that_is_spelled_out_is_understood() -> None:
    """`[0]` may also come as a count of one and a zero."""
    assert parse(b"\x00\x00\x00\x00\x07\x02\x00body") == (7, b"body")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "too few"),
        (b"\x00\x00\x00\x00\x01", "too few"),
        (b"\x01\x00\x00\x00\x01\x00", "magic byte"),
        (b'{"json": true}', "magic byte"),
        (b"\x00\x00\x00\x00\x01\x80", "does not end"),
        (b"\x00\x00\x00\x00\x01" + b"\x80" * 20, "does not end"),
        (b"\x00\x00\x00\x00\x01\x04\x00", "does not end"),
        (b"\x00\x00\x00\x00\x01\x01", "impossible"),
        (b"\x00\x00\x00\x00\x01\xfe\x01", "impossible"),
        (b"\x00\x00\x00\x00\x01\x02\x03", "negative"),
    ],
)
def test_what_is_not_framed_is_refused_with_the_part_that_is_wrong(value: bytes, problem: str) -> None:
    """Bare JSON, another magic byte, an index that does not end or cannot be."""
    with pytest.raises(FramingError, match=problem):
        parse(value)


@given(st.binary(max_size=64))
def test_any_bytes_are_taken_apart_or_refused(value: bytes) -> None:
    """Nothing but FramingError comes out of foreign bytes."""
    try:
        framed = split(value)
    except FramingError:
        return
    assert value.endswith(framed.payload)


@pytest.mark.parametrize(("schema_id", "index"), [(-1, (0,)), (2**32, (0,)), (1, ()), (1, (-1,))])
def test_an_impossible_frame_is_refused(schema_id: int, index: tuple[int, ...]) -> None:
    """Ids beyond 32 bits and empty or negative indices have no encoding."""
    with pytest.raises(FramingError):
        frame_prefix(schema_id, index)
