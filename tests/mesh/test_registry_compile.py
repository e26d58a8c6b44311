"""The compiled table of schemas: complete, of the contracts as they are, and true to ids that were given out."""

import base64
import importlib.resources
import json
from typing import Any

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from tools.compile_registry import IncompatibleSchemaError, RegistryTable, compile_table

Table = dict[str, Any]


@pytest.fixture(scope="module")
def committed() -> Table:
    """The table in the tree."""
    text = (importlib.resources.files("clew") / "registry.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def build(*versions: str) -> tuple[FileDescriptor, FileDescriptor]:
    """A file with these fields that imports another one with a message of one field."""
    pool = DescriptorPool()
    common = FileDescriptorProto(name="x/common.proto", package="x", syntax="proto3")
    common.message_type.add(name="Common").field.add(name="a", number=1, type=9, label=1)
    value = FileDescriptorProto(name="x/value.proto", package="x", syntax="proto3", dependency=["x/common.proto"])
    message = value.message_type.add(name="Value")
    for number, name in enumerate(versions, start=1):
        message.field.add(name=name, number=number, type=9, label=1)
    pool.Add(common)
    pool.Add(value)
    return pool.FindFileByName("x/common.proto"), pool.FindFileByName("x/value.proto")


def grown(base: Table, *fields: str) -> Table:
    """The table after the value has these fields."""
    table = RegistryTable(base)
    table.add_value("topic", build(*fields)[1])
    return dict(json.loads(table.text()))


@pytest.fixture(autouse=True)
def _texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts for the files that are made up here; the real ones stay."""
    import tools.compile_registry as compiler  # noqa: PLC0415 - patched where it is used

    real = compiler.source
    monkeypatch.setattr(compiler, "source", lambda name: f"// {name}" if name.startswith("x/") else real(name))


def test_compiling_again_changes_nothing(committed: Table) -> None:
    """On top of itself the committed table stays as it is: every contract is in it."""
    assert json.loads(compile_table(committed)) == committed


def test_ids_are_dense_and_every_reference_exists(committed: Table) -> None:
    """Ids count up from 1; subjects and references point at schemas of the table."""
    assert [schema["id"] for schema in committed["schemas"]] == list(range(1, len(committed["schemas"]) + 1))
    assert {i for ids in committed["subjects"].values() for i in ids} == {s["id"] for s in committed["schemas"]}
    for schema in committed["schemas"]:
        for reference in schema["references"]:
            assert reference["version"] <= len(committed["subjects"][reference["subject"]])


def test_references_are_all_imports_innermost_first(committed: Table) -> None:
    """Each schema names every file that it needs, each after what that one needs; descriptor.proto is the client's."""
    files = {schema["file"]: [used["name"] for used in schema["references"]] for schema in committed["schemas"]}
    for references in files.values():
        for position, name in enumerate(references):
            assert set(files[name]) <= set(references[:position])
    assert "google/protobuf/timestamp.proto" in files["clew/event/v1/enriched_event.proto"]
    assert not any(name.endswith("descriptor.proto") for name in files)


def test_a_descriptor_imports_the_outermost_file_first(committed: Table) -> None:
    """Whatever the order in the source, a file stands before those that it imports itself."""
    files = {
        schema["file"]: list(FileDescriptorProto.FromString(base64.b64decode(schema["serialized"])).dependency)
        for schema in committed["schemas"]
    }
    for imports in files.values():
        for position, name in enumerate(imports):
            assert not set(files.get(name, ())) & set(imports[:position])


def test_an_unchanged_schema_keeps_its_id_and_version() -> None:
    """What was given out stays."""
    first = grown({}, "a")
    assert first["subjects"] == {"topic-value": [2], "x/common.proto": [1]}
    assert grown(first, "a") == first


def test_a_changed_schema_is_a_new_version_and_the_old_one_stays() -> None:
    """Old records can be read for ever; new ones carry the new id."""
    first = grown({}, "a")
    second = grown(first, "a", "b")

    assert second["subjects"] == {"topic-value": [2, 3], "x/common.proto": [1]}
    assert second["schemas"][:2] == first["schemas"]
    assert second["messages"] == {"x.Value": 3}


def test_what_breaks_any_earlier_version_gets_no_id() -> None:
    """Records of every version lie on the topics: a field that only the first one had is still somebody's."""
    first = grown({}, "a", "b")
    with pytest.raises(IncompatibleSchemaError, match=r"topic-value: version 1 .* field Value\.b \(2\) was deleted"):
        grown(first, "a")
    with pytest.raises(IncompatibleSchemaError, match=r"version 1 .* is called c now"):
        grown(grown(first, "a", "b", "d"), "a", "c", "d")


def test_a_changed_comment_is_the_same_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is replaced, id and version stay."""
    first = grown({}, "a")
    monkeypatch.setattr("tools.compile_registry.source", lambda name: f"// better words about {name}")

    second = grown(first, "a")

    assert second["subjects"] == first["subjects"]
    assert second["schemas"][1]["schema"] == "// better words about x/value.proto"
