"""Each reason for a refusal shows what the refusal looks like."""

import json
import textwrap

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from clew.errors.v1 import errors_pb2

REASONS = [name for name, number in errors_pb2.ErrorReason.items() if number]

FILE = "clew/errors/v1/errors.proto"
ENUM_VALUE_PATH_LENGTH = 4  # enum_type, index, value, index


@pytest.fixture(scope="module")
def examples(contract_sources: dict[str, FileDescriptorProto]) -> dict[str, str]:
    """The indented block of each value's comment, by the value's name."""
    file = contract_sources[FILE]
    found = {}
    for location in file.source_code_info.location:
        if (
            len(location.path) == ENUM_VALUE_PATH_LENGTH
            and location.path[0] == FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER
        ):
            value = file.enum_type[location.path[1]].value[location.path[3]]
            block = [line for line in location.leading_comments.splitlines() if line.startswith("     ")]
            found[value.name] = textwrap.dedent("\n".join(block))
    return found


@pytest.mark.parametrize("name", REASONS)
def test_each_reason_has_an_example(name: str, examples: dict[str, str]) -> None:
    """The example is an `ErrorInfo` as JSON: this reason, our domain, and metadata of text."""
    example = json.loads(examples[name])
    assert set(example) == {"reason", "domain", "metadata"}
    assert example["reason"] == name
    assert example["domain"] == "clew.dev"
    assert all(isinstance(part, str) for pair in example["metadata"].items() for part in pair)


def test_no_reason_is_never_sent(examples: dict[str, str]) -> None:
    """The zero value has no example, since it is never sent."""
    assert examples["ERROR_REASON_UNSPECIFIED"] == ""
