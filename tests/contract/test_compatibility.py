"""Consumers of version n read n+1 and n-1: with generated code of an earlier, of this and of a later version."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from gateway.routes.registry import contracts_registry
from mesh.registry.canonical import canonical_descriptor
from mesh.wire import varint

ROOT = Path(__file__).parents[2]
READING = Path(__file__).with_name("reading.py")
OLDER = Path(__file__).with_name("older") / "events_1_0"
EVENT = EnrichedEvent(message_id="m-1", type=EventType.EVENT_TYPE_TRACK, profile_epoch=7)
EVENT.enrichment.client.browser = "Firefox"
EPOCH = b"\xd8\x01\x07"
"""Field 27, varint, 7: what the older code does not know."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a consumer has made of an event."""

    known: list[str]
    event: dict[str, Any]
    serialized: bytes


def read_with(code: Path, event: bytes) -> Seen:
    """Let a process with this generated code read an event and write it again."""
    environment = {"PYTHONPATH": str(code), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-P", str(READING)],
        input=event.hex(),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    return Seen(seen.pop("known"), seen, bytes.fromhex(seen.pop("serialized")))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code generated from contracts of a later version: one more field, one more nested field, one more enum value."""
    root = tmp_path_factory.mktemp("newer")
    sources, out = root / "proto", root / "gen"
    out.mkdir()
    edits = {
        "clew/event/v1/enriched_event.proto": ("message EnrichedEvent {", "  string later = 1000;"),
        "clew/enrich/v1/enrichment.proto": ("message Client {", "  int64 later_too = 1000;"),
        "clew/event/v1/event.proto": ("EVENT_TYPE_UNSPECIFIED = 0;", "  EVENT_TYPE_LATER = 1000;"),
    }
    for file in (ROOT / "proto").rglob("*.proto"):
        name = file.relative_to(ROOT / "proto").as_posix()
        after, more = edits.get(name, ("", ""))
        assert after in file.read_text()
        target = sources / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.read_text().replace(after, f"{after}\n{more}") if after else file.read_text())
    includes = [sources, ROOT / "third_party" / "proto", Path(grpc_tools.__file__).parent / "_proto"]
    needed = [path.relative_to(OLDER).as_posix().replace("_pb2.py", ".proto") for path in OLDER.rglob("*_pb2.py")]
    assert protoc.main(["protoc", *(f"-I{each}" for each in includes), f"--python_out={out}", *needed]) == 0
    return out


def test_an_older_consumer_reads_what_is_published_today() -> None:
    """It sees all that it knows, and what it does not know it passes on, byte for byte."""
    today = EVENT.SerializeToString()
    assert EPOCH in today

    seen = read_with(OLDER, today)

    assert "profile_epoch" not in seen.known
    track = int(EventType.EVENT_TYPE_TRACK)
    assert seen.event == {"message_id": "m-1", "type": track, "profile_epoch": None, "browser": "Firefox"}
    assert EPOCH in seen.serialized
    assert EnrichedEvent.FromString(seen.serialized) == EVENT


def test_todays_consumer_reads_what_an_older_one_wrote() -> None:
    """What the older contract had not is absent, and that has a meaning: the field's default."""
    without = EnrichedEvent()
    without.CopyFrom(EVENT)
    without.ClearField("profile_epoch")

    written = read_with(OLDER, without.SerializeToString()).serialized

    assert EnrichedEvent.FromString(written) == without


def test_todays_consumer_reads_a_later_version(newer: Path) -> None:
    """New fields, nested ones too, and values of enums that it does not know: nothing is refused, nothing lost."""
    later = varint(1000 << 3 | 2) + varint(3) + b"new"
    nested = varint(1000 << 3) + varint(42)
    event = EVENT.SerializeToString() + later
    event += b"\x92\x01" + varint(len(nested) + 2) + b"\x0a" + varint(len(nested)) + nested
    event += b"\x20" + varint(1000)

    read = EnrichedEvent.FromString(event)

    assert (read.message_id, read.type, read.enrichment.client.browser) == ("m-1", 1000, "Firefox")
    again = read.SerializeToString()
    assert later in again
    assert nested in again
    back = read_with(newer, again)
    assert {"later", "profile_epoch"} <= set(back.known)
    assert back.event["type"] == 1000
    assert later in back.serialized
    assert nested in back.serialized


def test_a_later_consumer_reads_what_is_published_today(newer: Path) -> None:
    """And what an older version published, for topics keep records of all of them."""
    seen = read_with(newer, EVENT.SerializeToString())
    assert seen.event["profile_epoch"] == 7
    assert EnrichedEvent.FromString(seen.serialized) == EVENT


def test_the_held_code_is_a_version_that_was_published() -> None:
    """The older generated code is the registry's first version of the events, no other one."""
    table = contracts_registry().table
    first = table.schemas[table.subjects["clew.events.v1-value"][0]]
    held = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "from clew.event.v1.enriched_event_pb2 import DESCRIPTOR; print(DESCRIPTOR.serialized_pb.hex())",
        ],
        env={"PYTHONPATH": str(OLDER), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert canonical_descriptor(bytes.fromhex(held.stdout)) == canonical_descriptor(first.descriptor)


@pytest.mark.parametrize("subject", [name for name in contracts_registry().table.subjects if name.endswith("-value")])
def test_every_version_that_was_ever_published_reads_every_other(subject: str) -> None:
    """By the registry's own descriptors: a message with all fields of one version passes through another unharmed."""
    table = contracts_registry().table
    classes = [message_class(identifier) for identifier in table.subjects[subject]]
    for writer in classes:
        message = filled(writer)
        for reader in classes:
            passed = reader.FromString(message.SerializeToString()).SerializeToString()
            assert writer.FromString(passed) == message


def message_class(identifier: int) -> Any:
    """The first message of a schema, built from the registry alone."""
    table = contracts_registry().table
    schema = table.schemas[identifier]
    pool = DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    for used in schema.references:
        imported = table.version(used.subject, str(used.version))[1]
        pool.AddSerializedFile(imported.descriptor)
    file = pool.AddSerializedFile(schema.descriptor)
    return GetMessageClass(next(iter(file.message_types_by_name.values())))


def filled(cls: Any) -> Any:
    """A message with a value in each of its scalar fields."""
    values = {field.name: _value(field) for field in cls.DESCRIPTOR.fields if field.message_type is None}
    return ParseDict(values, cls(), descriptor_pool=cls.DESCRIPTOR.file.pool)


def _value(field: Any) -> Any:
    one: Any = {9: "text", 12: "Ynl0ZXM=", 8: True, 14: 1}.get(field.type, 5)
    return [one] if field.is_repeated else one
