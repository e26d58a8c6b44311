"""What a new version of a schema may change: our rules, with `buf breaking` as the judge of the same pairs."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from mesh.registry.rules import breaking_changes

BUF = str(Path(sys.executable).with_name("buf"))
OLD = """\
syntax = "proto3";

package x.v1;

import "google/protobuf/descriptor.proto";

option java_package = "x.java";

message Value {
  reserved 20 to 22, 30;
  reserved "gone";
  string text = 1;
  int32 number = 2;
  repeated string texts = 3;
  optional string maybe = 4;
  Inner inner = 5;
  Kind kind = 6;
  oneof choice {
    string left = 7;
    string right = 8;
  }
  map<string, int64> counts = 9;
  bytes alone = 14;
  int64 long = 10 [jstype = JS_STRING];
  string named = 11 [json_name = "called"];
  message Inner {
    string text = 1;
  }
  enum Colour {
    COLOUR_UNSPECIFIED = 0;
    COLOUR_RED = 1;
  }
}

message Other {
  string text = 1;
}

message Spare {}

enum Kind {
  option allow_alias = true;
  reserved 7 to 9;
  reserved "KIND_GONE";
  KIND_UNSPECIFIED = 0;
  KIND_A = 1;
  KIND_ALSO_A = 1;
  KIND_B = 2;
  KIND_D = 4;
  KIND_ALSO_D = 4;
}

extend google.protobuf.FieldOptions {
  Other note = 50001;
}
"""
FIELD = "  string text = 1;\n  int32 number"
CASES = {
    # What may change.
    "nothing": ("", ""),
    "a comment": ("message Value {", "// More words.\nmessage Value {"),
    "a new field": (FIELD, "  bytes more = 12;\n" + FIELD),
    "a new optional field": (FIELD, "  optional bytes more = 12;\n" + FIELD),
    "a new message": ("message Other {", "message More {}\nmessage Other {"),
    "a new enum value": ("  KIND_B = 2;", "  KIND_B = 2;\n  KIND_C = 3;"),
    "a new nested enum value": ("    COLOUR_RED = 1;", "    COLOUR_RED = 1;\n    COLOUR_BLUE = 2;"),
    "a new alias": ("  KIND_B = 2;", "  KIND_B = 2;\n  KIND_ALSO_B = 2;"),
    "a new choice": ("    string right = 8;", "    string right = 8;\n    string middle = 13;"),
    "fields in another order": (
        "  string text = 1;\n  int32 number = 2;\n",
        "  int32 number = 2;\n  string text = 1;\n",
    ),
    "wider reserved ranges": ("reserved 20 to 22, 30;", "reserved 18 to 40;"),
    "reserved ranges put together": ("reserved 20 to 22, 30;", "reserved 20, 21, 22, 30 to 31;"),
    "another reserved name": ('reserved "gone";', 'reserved "gone", "too";'),
    "a new extension": ("  Other note = 50001;", "  Other note = 50001;\n  string word = 50002;"),
    "the json name that is derived anyway": ("int32 number = 2;", 'int32 number = 2 [json_name = "number"];'),
    # What may not.
    "a deleted field": ("  int32 number = 2;\n", ""),
    "a deleted field whose number is reserved": ("  int32 number = 2;\n", '  reserved 2;\n  reserved "number";\n'),
    "a renumbered field": ("int32 number = 2;", "int32 number = 12;"),
    "a renamed field": ("int32 number = 2;", "int32 count = 2;"),
    "another type": ("int32 number = 2;", "int64 number = 2;"),
    "a signed type": ("int32 number = 2;", "sint32 number = 2;"),
    "bytes for a string": ("  string text = 1;\n  int32", "  bytes text = 1;\n  int32"),
    "another message": ("  Inner inner = 5;", "  Other inner = 5;"),
    "a number for an enum": ("  Kind kind = 6;", "  int32 kind = 6;"),
    "repeated for single": ("int32 number = 2;", "repeated int32 number = 2;"),
    "single for repeated": ("repeated string texts", "string texts"),
    "presence taken away": ("optional string maybe", "string maybe"),
    "presence given": ("int32 number = 2;", "optional int32 number = 2;"),
    "out of a oneof": ("    string right = 8;\n  }", "  }\n  string right = 8;"),
    "into a oneof": (
        "  bytes alone = 14;\n",
        "  oneof late {\n    bytes alone = 14;\n  }\n",
    ),
    "a renamed oneof": ("oneof choice", "oneof option"),
    "another value of a map": ("map<string, int64>", "map<string, int32>"),
    "another key of a map": ("map<string, int64>", "map<int32, int64>"),
    "another jstype": (" [jstype = JS_STRING]", ""),
    "another json name": ('json_name = "called"', 'json_name = "named"'),
    "a deleted message": ("message Spare {}\n", ""),
    "a deleted field of a nested message": ("    string text = 1;\n  }\n  enum", "  }\n  enum"),
    "a deleted enum": ("enum Colour", "enum Color"),
    "a deleted enum value": ("  KIND_B = 2;\n", ""),
    "a deleted alias": ("  KIND_ALSO_A = 1;\n", ""),
    "a renamed enum value": ("KIND_B = 2", "KIND_C = 2"),
    "a freed number": ("reserved 20 to 22, 30;", "reserved 20 to 21, 30;"),
    "a freed name": ('  reserved "gone";\n', ""),
    "a freed number of an enum": ("reserved 7 to 9;", "reserved 7 to 8;"),
    "a freed name of an enum": ('  reserved "KIND_GONE";\n', ""),
    "a deleted extension": ("  Other note = 50001;", "  Other remark = 50002;"),
    "another type of an extension": ("  Other note = 50001;", "  string note = 50001;"),
    "another package": ("package x.v1;", "package x.v2;"),
    "another Java package": ('"x.java"', '"y.java"'),
}


def edit(before: str, after: str) -> str:
    """The old file with one change."""
    assert before in OLD
    return OLD.replace(before, after, 1)


def built(folder: Path, text: str) -> FileDescriptorProto:
    """The descriptor that buf makes of a text, alone in a folder."""
    folder.mkdir()
    (folder / "x.proto").write_text(text)
    (folder / "buf.yaml").write_text("version: v2\nbreaking:\n  use: [FILE]\n")
    done = subprocess.run(
        [BUF, "build", "--as-file-descriptor-set", "-o", "-"], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    (file,) = (each for each in FileDescriptorSet.FromString(done.stdout).file if each.name == "x.proto")
    return file


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], str]]:
    """For each case, what our rules say and what buf says."""
    root = tmp_path_factory.mktemp("rules")
    old = built(root / "old", OLD)

    def judge(numbered: tuple[int, str]) -> tuple[str, tuple[list[str], str]]:
        number, name = numbered
        new = built(root / str(number), edit(*CASES[name]))
        buf = subprocess.run(
            [BUF, "breaking", "--against", str(root / "old")],
            cwd=root / str(number),
            capture_output=True,
            text=True,
            check=False,
        )
        return name, (breaking_changes(old, new), buf.stdout)

    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(pool.map(judge, enumerate(CASES)))


@pytest.mark.parametrize("name", CASES)
def test_our_rules_agree_with_buf(name: str, judged: dict[str, tuple[list[str], str]]) -> None:
    """What buf takes we take, and what it refuses we refuse, with words for it."""
    ours, bufs = judged[name]
    assert bool(ours) == bool(bufs), f"ours: {ours}; buf's: {bufs}"


def test_the_cases_are_of_both_kinds(judged: dict[str, tuple[list[str], str]]) -> None:
    """The comment in the list of cases says which ones may change: buf agrees."""
    allowed = [name for name, (_, bufs) in judged.items() if not bufs]
    assert allowed == list(CASES)[: len(allowed)]
    assert 10 < len(allowed) < len(CASES) - 20
