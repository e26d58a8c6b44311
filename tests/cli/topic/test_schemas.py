"""From bytes to messages by the schema id: clew's own ids, a registry's, and what nobody knows."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.audit.v1.audit_entry_pb2 import AuditEntry
from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from cli.topic.access import Access
from cli.topic.errors import TopicError
from cli.topic.records import Raw
from cli.topic.schemas import Schemas
from mesh.bus.framing import frame_prefix
from mesh.registry import SchemaRegistry
from tests.mesh.registry_server import serving

TABLE: dict[str, Any] = json.loads((resources.files("clew") / "registry.json").read_text())
NAMES: dict[str, Any] = {message.DESCRIPTOR.full_name: message for message in (EnrichedEvent, FailedEvent, AuditEntry)}


def raw(value: bytes | None, schema: str = "") -> Raw:
    """A record with this value."""
    headers: list[tuple[str, bytes | None]] = [("clew-schema", f"{schema};1.0.0".encode())] if schema else []
    return Raw("t", 0, 0, 0, None, value, headers)


def moved(by: int) -> dict[str, Any]:
    """The same registry under other ids, as Confluent's gives them."""
    schemas = [{**schema, "id": schema["id"] + by} for schema in TABLE["schemas"]]
    return {
        "schemas": schemas,
        "subjects": {name: [number + by for number in ids] for name, ids in TABLE["subjects"].items()},
        "messages": {name: number + by for name, number in TABLE["messages"].items()},
    }


@pytest.mark.parametrize("name", NAMES)
def test_clews_own_ids_are_known(name: str) -> None:
    """Without asking anybody, whatever version of the schema it was."""
    message = NAMES[name](workspace="main")
    for schema in TABLE["schemas"]:
        if schema["id"] == TABLE["messages"][name]:
            read = Schemas().read(raw(frame_prefix(schema["id"]) + message.SerializeToString()))
            assert (read.message, read.schema, read.schema_id) == (message, name, schema["id"])


def test_old_versions_are_read_by_todays_contract() -> None:
    """Every id that was ever given to a topic's value leads to its message."""
    for subject, ids in TABLE["subjects"].items():
        if subject.endswith("-value"):
            for number in ids:
                assert Schemas().read(raw(frame_prefix(number))).message is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_registrys_ids_are_asked_for_once(name: str) -> None:
    """With all that the schema imports; the message is the registry's, and reads the same."""
    message = NAMES[name](workspace="main")
    with serving(SchemaRegistry(moved(1_000))) as server:
        schemas = Schemas(server.url, own=False)
        value = frame_prefix(TABLE["messages"][name] + 1_000) + message.SerializeToString()
        reads = [schemas.read(raw(value)) for _ in range(3)]
        asked = list(server.requests)
    assert {read.schema for read in reads} == {name}
    assert all(getattr(read.message, "workspace", "") == "main" for read in reads)
    assert type(reads[0].message) is not NAMES[name]
    assert len(asked) == len(set(asked))


def test_a_registry_that_one_logs_in_to_is_logged_in_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `clew schemas` and the gateway do, by the same variables; the gateway's own gets none of it."""
    monkeypatch.setenv("CLEW_SCHEMA_REGISTRY_AUTH", "ada:secret")
    value = raw(frame_prefix(TABLE["messages"]["clew.event.v1.FailedEvent"] + 1_000))
    with serving(SchemaRegistry(moved(1_000))) as server:
        assert Access(Path("nowhere"), registry=server.url).schemas().read(value).message is not None
        assert server.authorizations == {"Basic YWRhOnNlY3JldA=="}
        server.authorizations.clear()
        Schemas(server.url).read(value)
        assert server.authorizations == {None}
    monkeypatch.setenv("CLEW_SCHEMA_REGISTRY_AUTH", "ada")
    with pytest.raises(TopicError, match="CLEW_SCHEMA_REGISTRY_AUTH"):
        Access(Path("nowhere"), registry="http://127.0.0.1:1").schemas()


def test_a_nested_or_later_message_is_found_by_its_index() -> None:
    """The message index is a path, not always the first."""
    with serving(SchemaRegistry(moved(1_000))) as server:
        number = TABLE["messages"]["clew.audit.v1.AuditEntry"] + 1_000
        read = Schemas(server.url, own=False).read(raw(frame_prefix(number, (2,))))
        beyond = Schemas(server.url, own=False).read(raw(frame_prefix(number, (99,)) + b""))
    assert read.schema == "clew.audit.v1.RedrivenEvent"
    assert "without a message [99]" in beyond.problem


def test_the_records_own_word_counts_against_a_number() -> None:
    """Another registry gave the number to another schema: the header says which, and ours is not taken for it."""
    failed = FailedEvent(workspace="main")
    number = TABLE["messages"]["clew.event.v1.EnrichedEvent"]
    value = frame_prefix(number) + failed.SerializeToString()
    assert Schemas().read(raw(value, "clew.event.v1.FailedEvent")).message == failed
    assert Schemas().read(raw(value, "acme.v1.Thing")).message is None
    # Each record's own, also after one of the other registry's on the same topic.
    both = Schemas()
    assert both.read(raw(value, "clew.event.v1.EnrichedEvent")).schema == "clew.event.v1.EnrichedEvent"
    assert both.read(raw(value, "clew.event.v1.FailedEvent")).message == failed


def test_a_named_registry_that_is_of_no_use_is_told_once() -> None:
    """A record whose header names clew's own message is read all the same, but not as if the registry knew it."""
    failed = FailedEvent(workspace="main")
    value = raw(frame_prefix(9_999) + failed.SerializeToString(), "clew.event.v1.FailedEvent")
    told: list[str] = []
    with serving(SchemaRegistry(TABLE)) as server:
        schemas = Schemas(server.url, own=False, tell=told.append)
        assert [schemas.read(each).message for each in (value, value)] == [failed, failed]
        known = raw(frame_prefix(TABLE["messages"]["clew.event.v1.FailedEvent"]) + failed.SerializeToString())
        assert schemas.read(known).schema == "clew.event.v1.FailedEvent"
    assert len(told) == 1
    assert f"the registry at {server.url} answers 404" in told[0]


def test_what_nobody_knows_is_said() -> None:
    """And who was asked."""
    assert "--registry" in Schemas().read(raw(frame_prefix(9_999) + b"x")).problem
    with serving(SchemaRegistry(TABLE)) as server:
        assert "answers 404" in Schemas(server.url).read(raw(frame_prefix(9_999) + b"x")).problem
    assert "cannot be asked" in Schemas(server.url).read(raw(frame_prefix(9_999) + b"x")).problem
    assert "tombstone" in Schemas().read(raw(None)).problem


@given(st.binary(max_size=80), st.sampled_from(["", "clew.event.v1.FailedEvent", "\xff"]))
def test_any_bytes_are_decoded_or_said_why_not(value: bytes, name: str) -> None:
    """Nothing that stands on a topic ends a read."""
    read = Schemas().read(raw(value, name))
    assert (read.message is None) == bool(read.problem)
