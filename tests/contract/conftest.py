"""The contracts as descriptors: from the generated code, and with their comments from the sources."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def contract_files() -> list[FileDescriptor]:
    """Every file of every clew package, from the generated code."""
    modules = sorted(path.relative_to(ROOT / "gen") for path in (ROOT / "gen" / "clew").rglob("*_pb2.py"))
    return [importlib.import_module(".".join(path.with_suffix("").parts)).DESCRIPTOR for path in modules]


@pytest.fixture(scope="session")
def contract_messages(contract_files: list[FileDescriptor]) -> list[Descriptor]:
    """Every message of every clew package, nested ones too; not the entries of maps, which protobuf makes up."""

    def walk(messages: Iterator[Descriptor]) -> Iterator[Descriptor]:
        for message in messages:
            if not message.GetOptions().map_entry:
                yield message
            yield from walk(iter(message.nested_types))

    return [message for file in contract_files for message in walk(iter(file.message_types_by_name.values()))]


@pytest.fixture(scope="session")
def contract_sources() -> dict[str, FileDescriptorProto]:
    """Every file of proto/ by name, with the comments that generated code leaves out."""
    buf = Path(sys.executable).with_name("buf")
    built = subprocess.run(
        [buf, "build", "--as-file-descriptor-set", "-o", "-"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    files = FileDescriptorSet.FromString(built.stdout).file
    return {file.name: file for file in files if file.name.startswith("clew/")}
