"""The comments of the contracts by full name: generated code leaves them out, so they come from the sources."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parents[2]


def build_sources() -> dict[str, FileDescriptorProto]:
    """Every file of proto/ by name, with its comments."""
    command = [str(Path(sys.executable).with_name("buf")), "build", "--as-file-descriptor-set", "-o", "-"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return {
        file.name: file for file in FileDescriptorSet.FromString(built.stdout).file if file.name.startswith("clew/")
    }


def read_comments(sources: dict[str, FileDescriptorProto]) -> dict[str, str]:
    """The leading comment of each service, rpc, message, field, enum and enum value that has one, unwrapped.

    An enum value goes by the name of its enum and its own, as `clew.identity.v1.Assurance.ASSURANCE_VERIFIED`.
    """
    found: dict[str, str] = {}
    for file in sources.values():
        names = dict(_names(file, file.package, ()))
        for location in file.source_code_info.location:
            name = names.get(tuple(location.path))
            if name and location.leading_comments:
                found[name] = unwrap(location.leading_comments)
    return found


def unwrap(comment: str) -> str:
    """A comment's text, its paragraphs one line each; an indented block keeps its lines."""
    paragraphs = "\n".join(line.removeprefix(" ") for line in comment.splitlines()).strip("\n").split("\n\n")
    joined = (paragraph if paragraph.startswith("    ") else " ".join(paragraph.split()) for paragraph in paragraphs)
    return "\n\n".join(joined)


def first_sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    paragraph = text.partition("\n\n")[0]
    return paragraph.partition(". ")[0].removesuffix(".")


_CHILDREN = {
    "FileDescriptorProto": (("message_type", 4), ("enum_type", 5), ("service", 6)),
    "DescriptorProto": (("field", 2), ("nested_type", 3), ("enum_type", 4)),
    "EnumDescriptorProto": (("value", 2),),
    "ServiceDescriptorProto": (("method", 2),),
}


def _names(node: Any, prefix: str, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """The path of every element in the source info (descriptor.proto, `SourceCodeInfo.Location.path`), and its name."""
    for attribute, number in _CHILDREN.get(node.DESCRIPTOR.name, ()):
        for index, child in enumerate(getattr(node, attribute)):
            name = f"{prefix}.{child.name}"
            yield (*path, number, index), name
            yield from _names(child, name, (*path, number, index))
