"""`clew schemas` on a real registry that is not ours, and a gateway's start with it."""

import base64
import copy
import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from typer.testing import CliRunner, Result

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.failed_event_pb2 import FailedEvent
from cli.main import app
from gateway.routes.registry import contracts_registry
from mesh.bus.framing import frame_prefix
from mesh.registry.deployed import MEMORY, published_ids
from mesh.registry.outside import OutsideRegistry, RegistrySettings
from mesh.registry.publishing import IncompatibleSchema, Publishing
from mesh.registry.table import SchemaTable
from mesh.settings import SettingsError
from tests.support.apicurio import Apicurio, running_apicurio

EVENTS = "clew.events.v1-value"
OK, FAILED, USAGE, PENDING = 0, 1, 2, 3


@pytest.fixture(scope="module")
def registry() -> Iterator[Apicurio]:
    """A registry that holds nothing of ours at first."""
    with running_apicurio() as running:
        # So that ids are not ours by chance.
        with SchemaRegistryClient.new_client({"url": running.url}) as client:
            for number in range(3):
                text = f'syntax = "proto3"; message Other{number} {{ string a = 1; }}'
                client.register_schema(f"other-{number}", Schema(text, "PROTOBUF"))
        yield running


def clew(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, ["schemas", *arguments])


def table() -> dict[str, Any]:
    """Our table, as JSON has it."""
    return dict(json.loads((resources.files("clew") / "registry.json").read_text()))


def with_new_version(subject: str, change: Callable[[FileDescriptorProto], object]) -> SchemaTable:
    """Our table with one more version of a subject, changed by a function."""
    grown = copy.deepcopy(table())
    newest = copy.deepcopy(grown["schemas"][grown["subjects"][subject][-1] - 1])
    file = FileDescriptorProto.FromString(base64.b64decode(newest["serialized"]))
    change(file)
    newest |= {"id": len(grown["schemas"]) + 1, "serialized": base64.b64encode(file.SerializeToString()).decode()}
    grown["schemas"].append(newest)
    grown["subjects"][subject].append(newest["id"])
    return SchemaTable(grown)


async def test_schemas_are_registered_at_deploy_and_looked_up_at_start(registry: Apicurio, tmp_path: Path) -> None:
    """Plan, apply, nothing left to do; then the ids that a gateway gets are those by which stock clients read."""
    planned = clew("plan", "--registry", registry.url)
    assert planned.exit_code == PENDING, planned.output
    assert f"{EVENTS}  register" in planned.stdout
    settings = RegistrySettings(registry.url)
    with pytest.raises(SettingsError, match=f"not registered.*clew schemas apply --registry {registry.url}"):
        await published_ids(settings, contracts_registry().table, tmp_path)

    applied = clew("apply", "--registry", registry.url)
    assert applied.exit_code == OK, applied.output
    assert clew("plan", "--registry", registry.url).exit_code == OK
    again = clew("apply", "--registry", registry.url)
    assert (again.exit_code, again.stdout) == (OK, "all schemas are registered\n")
    listed = json.loads(clew("plan", "--registry", registry.url, "--json").stdout)
    assert listed["pending"] is False

    ids = await published_ids(settings, contracts_registry().table, tmp_path)
    assert set(ids) == set(contracts_registry().table.messages)
    assert ids != contracts_registry().table.messages, "the registry's ids, not ours"
    assert {one["id"] for one in listed["schemas"]} >= set(ids.values())
    with SchemaRegistryClient.new_client({"url": registry.url}) as client:
        for message in (EnrichedEvent(message_id="m", profile_epoch=3), FailedEvent(message_id="m")):
            topic = "clew.events.v1" if isinstance(message, EnrichedEvent) else "clew.events.failed.v1"
            framed = frame_prefix(ids[message.DESCRIPTOR.full_name]) + message.SerializeToString()
            read = ProtobufDeserializer(type(message), {}, client)
            assert read(framed, SerializationContext(topic, MessageField.VALUE)) == message
        assert client.get_latest_version(EVENTS).version == len(table()["subjects"][EVENTS])


async def test_a_registry_that_is_down_keeps_no_gateway_from_starting_again(tmp_path: Path) -> None:
    """The ids of the last start are taken, for they never change; without them, or for other schemas, it ends."""
    with running_apicurio() as registry:
        assert clew("apply", "--registry", registry.url).exit_code == OK
        ours, settings = contracts_registry().table, RegistrySettings(registry.url)
        ids = await published_ids(settings, ours, tmp_path)

    assert await published_ids(settings, ours, tmp_path) == ids
    newer = with_new_version(EVENTS, lambda file: file.message_type[0].field.add(name="x", number=99, type=9, label=1))
    newer.messages = {**newer.messages, EnrichedEvent.DESCRIPTOR.full_name: newer.subjects[EVENTS][-1]}
    for other, schemas, memory in (
        (RegistrySettings(registry.url.replace("127.0.0.1", "localhost")), ours, tmp_path),
        (settings, newer, tmp_path),
        (settings, ours, tmp_path / "elsewhere"),
        (settings, ours, None),
    ):
        with pytest.raises(SettingsError, match="does not answer"):
            await published_ids(other, schemas, memory)
    (tmp_path / MEMORY).write_text("{")
    with pytest.raises(SettingsError, match="does not answer"):
        await published_ids(settings, ours, tmp_path)
    away = clew("plan", "--registry", registry.url)
    assert (away.exit_code, away.stdout) == (FAILED, "")
    assert "does not answer" in away.stderr


def test_an_incompatible_schema_is_not_registered(registry: Apicurio) -> None:
    """By our own rules, though this registry is set to take anything: nothing at all is registered then."""
    assert clew("apply", "--registry", registry.url).exit_code == OK
    outside = OutsideRegistry(RegistrySettings(registry.url))

    def rename(file: FileDescriptorProto) -> None:
        file.message_type[0].field[0].name = "renamed"

    with pytest.raises(IncompatibleSchema, match=r"clew\.events\.v1-value: .* is called renamed now"):
        list(Publishing(with_new_version(EVENTS, rename), outside).apply())
    with SchemaRegistryClient.new_client({"url": registry.url}) as client:
        assert len(client.get_versions(EVENTS)) == len(table()["subjects"][EVENTS])

    def grow(file: FileDescriptorProto) -> None:
        file.message_type[0].field.add(name="x", number=99, type=9, label=1)

    (step,) = Publishing(with_new_version(EVENTS, grow), outside).apply()
    assert step.registered is not None
    assert (step.subject, step.registered.version) == (EVENTS, len(table()["subjects"][EVENTS]) + 1)
    # An older clew, rolled back to, finds its own version below the newest and has nothing to do.
    assert clew("plan", "--registry", registry.url).exit_code == OK


def test_what_is_wrong_is_said_on_standard_error(registry: Apicurio) -> None:
    """An address that is none, one that is no registry's root, none at all, a user in the address."""
    for address, status, words in (
        ("nonsense", USAGE, "is no address like"),
        ("http://user:secret@127.0.0.1:1", USAGE, "CLEW_SCHEMA_REGISTRY_AUTH"),
        (f"http://127.0.0.1:{registry.port}/nowhere", FAILED, "404"),
    ):
        said = clew("apply", "--registry", address)
        assert (said.exit_code, said.stdout) == (status, ""), said.output
        assert words in said.stderr
        assert "secret" not in said.stderr
    assert clew("plan").exit_code == USAGE
