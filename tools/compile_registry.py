"""Compile the contracts into the Schema Registry's table, gen/clew/registry.json: part of `make proto`.

The value of each topic (proto/topics.toml) has a subject, `<topic>-value`, and each proto file that it imports one of
the file's own name. Ids and versions are for good: they stand in every Kafka record. So the table of the last commit is
the base, a schema that changed becomes a new version with a new id, and nothing is removed.

Three stock clients read the table, each in its own way, and two things below are for their sake:

- A schema's references are all that it imports, directly or not, innermost first. Confluent's JavaScript client asks
  for the references of a reference as text and takes the text for a descriptor, unless it has that file already.
- Google's well-known files are references too, since KafkaJS's registry client brings none. Only descriptor.proto is
  left out: all clients bring it, and not all parse its text.

`--check` writes nothing and exits with 1 when the table in the tree is not what this would write.
"""

import argparse
import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc_tools
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mesh.registry.canonical import canonical_descriptor
from mesh.registry.rules import breaking_changes
from tools.compile_topics import declared_topics, value_of

ROOT: Final = Path(__file__).resolve().parents[1]
TABLE: Final = Path("gen/clew/registry.json")
SOURCES: Final = (ROOT / "proto", ROOT / "third_party" / "proto", Path(grpc_tools.__file__).parent / "_proto")
BUILT_IN: Final = "google/protobuf/descriptor.proto"
# Google's files follow the installed protobuf, whose next version must not give every schema a new id.
FROZEN: Final = "google/protobuf/"


class IncompatibleSchemaError(Exception):
    """A changed contract breaks readers of an earlier version, so it gets no id; the message says how."""


class RegistryTable:
    """The table as it grows: schemas by id, and for each subject its ids in the order of their versions."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        self.schemas: list[dict[str, Any]] = [dict(schema) for schema in base.get("schemas", ())]
        self.subjects: dict[str, list[int]] = {name: list(ids) for name, ids in base.get("subjects", {}).items()}
        self.messages: dict[str, int] = {}

    def add_value(self, topic: str, file: FileDescriptor) -> None:
        """Register a topic's value and all that its file imports.

        Raises:
            IncompatibleSchemaError: One of them breaks an earlier version.
        """
        message = next(iter(file.message_types_by_name.values()))
        self.messages[message.full_name] = self._add(f"{topic}-value", file)[0]

    def text(self) -> str:
        """The table as JSON, one line a schema so that a diff shows which one is new."""
        schemas = ",\n".join(json.dumps(schema, ensure_ascii=False) for schema in self.schemas)
        rest = {"subjects": dict(sorted(self.subjects.items())), "messages": dict(sorted(self.messages.items()))}
        return f'{{"schemas": [\n{schemas}\n],\n{json.dumps(rest, indent=1)[1:]}\n'

    def _add(self, subject: str, file: FileDescriptor) -> tuple[int, int]:
        """Register a file under a subject, imports first; its id and version."""
        references = [
            {"name": imported.name, "subject": imported.name, "version": self._add(imported.name, imported)[1]}
            for imported in imports_of(file)
            if imported.name != BUILT_IN
        ]
        identifier = self._id_of(file, references)
        versions = self.subjects.setdefault(subject, [])
        if identifier not in versions:
            self._check(subject, versions, file)
            versions.append(identifier)
        return identifier, versions.index(identifier) + 1

    def _check(self, subject: str, versions: list[int], file: FileDescriptor) -> None:
        """Whoever reads by any earlier version must be able to read on: those records are on the topics."""
        new = FileDescriptorProto.FromString(file.serialized_pb)
        texts = {int(schema["id"]): schema["serialized"] for schema in self.schemas}
        for number, identifier in enumerate(versions, start=1):
            old = FileDescriptorProto.FromString(base64.b64decode(texts[identifier]))
            if broken := breaking_changes(old, new):
                raise IncompatibleSchemaError(f"{subject}: version {number} cannot be followed: {'; '.join(broken)}")

    def _id_of(self, file: FileDescriptor, references: list[dict[str, Any]]) -> int:
        """The id of the same schema in the base, else a new one. Comments may change without making another schema."""
        serialized, text = serialized_file(file), source(file.name)
        for schema in self.schemas:
            if schema["file"] == file.name and file.name.startswith(FROZEN):
                return int(schema["id"])
            if (schema["file"], schema["serialized"], schema["references"]) == (file.name, serialized, references):
                schema["schema"] = text
                return int(schema["id"])
        identifier = 1 + max((int(schema["id"]) for schema in self.schemas), default=0)
        self.schemas.append(
            {
                "id": identifier,
                "file": file.name,
                "references": references,
                "schema": text,
                "serialized": serialized,
            }
        )
        return identifier


def imports_of(file: FileDescriptor) -> list[FileDescriptor]:
    """All that a file imports, directly or not, each after what it imports itself."""
    found: dict[str, FileDescriptor] = {}
    for imported in file.dependencies:
        for inner in (*imports_of(imported), imported):
            found.setdefault(inner.name, inner)
    return list(found.values())


def serialized_file(file: FileDescriptor) -> str:
    """A file's descriptor as the registry's `serialized` format: base64, without what depends on the generator.

    Its imports stand outermost first: protobuf-es, of which Confluent's JavaScript client is made, adds the files in
    the reverse of this order and needs each after what it imports.
    """
    proto = FileDescriptorProto.FromString(canonical_descriptor(file.serialized_pb))
    proto.name = file.name
    if not file.public_dependencies:
        innermost_first = [imported.name for imported in imports_of(file)]
        proto.dependency.sort(key=innermost_first.index, reverse=True)
    return base64.b64encode(proto.SerializeToString(deterministic=True)).decode()


def source(name: str) -> str:
    """The text of a proto file."""
    return next(root / name for root in SOURCES if (root / name).exists()).read_text(encoding="utf-8")


def base_table() -> dict[str, Any]:
    """The table of the last commit: one in the work tree may hold versions that nobody will ever have seen.

    Without git it is the one in the tree, and there must be one: ids that begin anew would lie about old records.
    """
    if _git("rev-parse", "--verify", "HEAD") is None:
        return dict(json.loads((ROOT / TABLE).read_text(encoding="utf-8")))
    committed = _git("show", f"HEAD:{TABLE.as_posix()}")
    return dict(json.loads(committed)) if committed else {}


def compile_table(base: Mapping[str, Any]) -> str:
    """The table for the contracts as generated in gen/, on top of a base."""
    table = RegistryTable(base)
    for topic in declared_topics().topics:
        table.add_value(topic.name, value_of(topic).file)
    return table.text()


def _git(*arguments: str) -> str | None:
    """What git says in this tree; None when it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def main() -> int:
    """Write or check the table; the exit status."""
    parser = argparse.ArgumentParser(description="Compile the contracts into the Schema Registry's table.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 when the table is stale")
    check = parser.parse_args().check
    try:
        text = compile_table(base_table())
    except IncompatibleSchemaError as error:
        print(f"{error}. Keep what was there and add what is new beside it.", file=sys.stderr)
        return 1
    table = ROOT / TABLE
    if not check:
        table.write_text(text, encoding="utf-8")
    elif not table.exists() or table.read_text(encoding="utf-8") != text:
        print(f"{TABLE} is not what proto/ compiles to. Run `make proto` and commit the result.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
