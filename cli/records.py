"""Records of the topics, decoded for people: consumed as they come, filtered, shown as lines or as JSON."""

import json
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from clew.event.v1.failed_event_pb2 import FailedEvent, FailureReason
from clew.identity.v1.identifier_pb2 import Assurance
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from clew.options.v1.privacy_pb2 import Purpose
from mesh.bus.framing import FramingError, split
from mesh.ids import new_id

EVENTS_TOPIC = "clew.events.v1"
FAILED_TOPIC = "clew.events.failed.v1"
PROFILES_TOPIC = "clew.profiles.v1"
Message = EnrichedEvent | FailedEvent | ProfileChanged
_TYPES: dict[str, type[Message]] = {
    EVENTS_TOPIC: EnrichedEvent,
    FAILED_TOPIC: FailedEvent,
    PROFILES_TOPIC: ProfileChanged,
}
EVENT_TYPES = tuple(name.removeprefix("EVENT_TYPE_").lower() for name, number in EventType.items() if number)
_METADATA_SECONDS = 10
_LOOK_SECONDS = 1.0
# Controls, and what reverses or breaks lines.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """One record with its message."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: dict[str, str]
    message: Message

    @property
    def trace_id(self) -> str:
        """The trace that the record continues; empty when it has none."""
        return self.headers.get("traceparent", "--").split("-")[1]


def consume(bootstrap: str, *, from_beginning: bool, stop: Callable[[], bool]) -> Iterator[Decoded | None]:
    """Records of all topics as they come; None whenever none came for a moment, so that the caller can look up.

    Partitions are assigned by hand: a viewer must not take part in anybody's consumer group.

    Raises:
        KafkaException: The broker cannot be reached.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"clew-tail-{new_id()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        absent, next_look = set(_TYPES), 0.0
        while not stop():
            if absent and time.monotonic() >= next_look:
                found = _partitions(consumer, absent, from_beginning=from_beginning or next_look > 0)
                absent -= {partition.topic for partition in found}
                consumer.incremental_assign(found)
                next_look = time.monotonic() + _LOOK_SECONDS
            messages = consumer.consume(100, timeout=0.2)
            if not messages:
                yield None
            for message in messages:
                error = message.error()
                if error is None:
                    yield _decode(message)  # None: not one of ours
                elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
    finally:
        consumer.close()


def _partitions(consumer: Any, topics: Collection[str], *, from_beginning: bool) -> list[TopicPartition]:
    """Where to begin in those of the topics that exist; one that nobody has written to does not, on a real Kafka."""
    found = []
    for topic in topics:
        metadata = consumer.list_topics(topic, timeout=_METADATA_SECONDS).topics[topic]
        for partition in metadata.partitions:
            start = TopicPartition(topic, partition, OFFSET_BEGINNING)
            if not from_beginning:
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_METADATA_SECONDS)
                start = TopicPartition(topic, partition, end)
            found.append(start)
    return found


def _decode(message: Any) -> Decoded | None:
    """The record; None, with a word on standard error, when somebody else wrote what is no record of the topic."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    headers = {name: (value or b"").decode(errors="replace") for name, value in message.headers() or ()}
    key = (message.key() or b"").decode(errors="replace")
    try:
        value = _TYPES[topic].FromString(split(message.value() or b"").payload)
    except (FramingError, DecodeError) as error:
        sys.stderr.write(f"{topic}[{partition}] at {offset} is no record of this topic: {error}\n")
        return None
    return Decoded(topic, partition, offset, key, headers, value)


def line(record: Decoded) -> str:
    """One record as a line for people."""
    message = record.message
    if isinstance(message, FailedEvent):
        reason = name_of(FailureReason, message.reason, "FAILURE_REASON_")
        return printable(
            f"failed    {reason:<22} source={message.source} message={message.message_id or '-'} {message.detail}"
        )
    if isinstance(message, ProfileChanged):
        merged = ",".join(message.merged_profile_ids)
        return printable(f"merged    epoch {message.epoch:<16} profile={message.profile_id} from={merged}")
    kind = name_of(EventType, message.type, "EVENT_TYPE_")
    what = message.event or message.name or ""
    names = (("user", message.user_id), ("anon", message.anonymous_id))
    who = " ".join(f"{name}={value}" for name, value in names if value)
    purposes = ",".join(name_of(Purpose, number, "PURPOSE_") for number in message.consent.granted_purposes)
    assurance = name_of(Assurance, message.assurance, "ASSURANCE_")
    return printable(f"{kind:<9} {what:<22} profile={message.profile_id} {who} ({assurance}) allowed={purposes}")


def as_json(record: Decoded) -> str:
    """One record as a line of JSON: place, key, headers and the message by the contract's own names."""
    value = MessageToDict(record.message, preserving_proto_field_name=True)
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    shown = json.dumps({**place, "key": record.key, "headers": record.headers, "value": value}, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", shown)


def name_of(enum: Any, number: int, prefix: str) -> str:
    """The name of an enum's value as people read it; the number where a newer contract has one that we do not know."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else str(value.name).removeprefix(prefix).lower()


def printable(text: str) -> str:
    """Text that cannot steer a terminal: what visitors sent is shown to operators, escape sequences and all."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)
