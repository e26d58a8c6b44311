"""Compile proto/topics.toml into what ships with the code, gen/clew/topics.json: part of `make proto`.

What is compiled was checked: each value is the first message of its file, so that its records have the short prefix
of the wire format, and each key is a field of it.

`--check` writes nothing and exits with 1 when the file in the tree is not what this would write.
"""

import argparse
import importlib
import json
import sys
import tomllib
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default as DefaultPool

from mesh.topics.declaration import Declaration, DeclarationError, Topic, read_declaration
from tools.openapi.comments import ROOT

SOURCE: Final = ROOT / "proto/topics.toml"
TARGET: Final = ROOT / "gen/clew/topics.json"


def declared_table() -> dict[str, Any]:
    """The table of proto/topics.toml."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def declared_topics() -> Declaration:
    """What proto/topics.toml declares, checked.

    Raises:
        DeclarationError: It cannot be used.
    """
    declaration = read_declaration(declared_table())
    for topic in declaration.topics:
        value_of(topic)
    return declaration


def value_of(topic: Topic) -> Descriptor:
    """The message that stands on a topic.

    Raises:
        DeclarationError: There is no such message, it is not the first of its file, or the key is no field of it.
    """
    for path in (ROOT / "gen" / "clew").rglob("*_pb2.py"):
        importlib.import_module(".".join(path.relative_to(ROOT / "gen").with_suffix("").parts))
    try:
        message = DefaultPool().FindMessageTypeByName(topic.value)
    except KeyError:
        raise DeclarationError(f"{topic.name}: the contracts have no message {topic.value}") from None
    if next(iter(message.file.message_types_by_name)) != message.name:
        raise DeclarationError(f"{topic.name}: {topic.value} is not the first message of {message.file.name}")
    if topic.key not in message.fields_by_name:
        raise DeclarationError(f"{topic.name}: {topic.key} is no field of {topic.value}")
    return message


def main() -> int:
    """Write or check the compiled file; the exit status."""
    parser = argparse.ArgumentParser(description="Compile proto/topics.toml into gen/clew/topics.json.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 when the file is stale")
    check = parser.parse_args().check
    try:
        declared_topics()
    except (DeclarationError, tomllib.TOMLDecodeError) as error:
        print(f"{SOURCE.relative_to(ROOT)}: {error}", file=sys.stderr)
        return 1
    text = json.dumps(declared_table(), indent=1, ensure_ascii=False) + "\n"
    if not check:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET.relative_to(ROOT)} is stale. Run `make proto` and commit the result.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
