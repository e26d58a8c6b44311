"""What clients hold us to and buf does not see: proto/contract.lock, part of `make proto` and `make check`.

HTTP routes (method, path, rpc, access, body), reasons of errors (number, statuses, the keys of their metadata), keys of
call metadata, and headers of Kafka records. The lock is the memory of it: an entry may be added, never lost or changed.

Without options, adds what is new, and refuses to touch what is there. `--check` writes nothing; it exits with 1 when an
entry was lost or changed, or a new one does not stand in the lock yet.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from clew.errors.v1.errors_pb2 import ErrorReason
from clew.options.v1.access_pb2 import AccessKind
from gateway import encode
from gateway.credentials import AUTHORIZATION, WRITE_KEY
from mesh.status import DETAILS_KEY, TABLE
from mesh.tracecontext import TRACEPARENT, TRACESTATE
from tools.openapi.collection import static_paths
from tools.openapi.comments import ROOT, build_sources, read_comments
from tools.openapi.document import all_bindings

LOCK: Final = ROOT / "proto/contract.lock"
ENCODER: Final = ROOT / "gateway/encode.py"
_RECORD_HEADER: Final = re.compile(r"clew-[a-z-]+|ce_[a-z]+|traceparent|tracestate|content-type")
_ENUM: Final = "clew.errors.v1.ErrorReason"

Entries = dict[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """How the contract differs from its lock, one line an entry."""

    broken: list[str]
    added: list[str]


def current_entries(sources: Mapping[str, FileDescriptorProto], encoder: str) -> Entries:
    """Everything that clients hold us to, by its name, with what must not change about it.

    Args:
        sources: The contracts with their comments.
        encoder: The source of the module that writes the headers of records.
    """
    return dict(sorted([*_routes(), *_reasons(sources), *_metadata(), *_record_headers(encoder)]))


def compare(locked: Mapping[str, str], current: Mapping[str, str]) -> Change:
    """What was lost or changed, and what is new."""
    lost = [f"lost: {name}" for name in locked if name not in current]
    altered = [
        f"changed: {name}: from `{locked[name]}` to `{current[name]}`"
        for name in locked
        if name in current and locked[name] != current[name]
    ]
    return Change(lost + altered, [f"new: {name}" for name in current if name not in locked])


def read_lock(path: Path) -> Entries:
    """The entries of a lock; none when there is no file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _routes() -> Iterator[tuple[str, str]]:
    for binding in all_bindings():
        kind = AccessKind.Name(binding.access.kind).removeprefix("ACCESS_KIND_").lower()
        scopes = " or ".join((binding.access.scope, *binding.access.other_scopes))
        facts = [binding.rpc, f"access {kind} {scopes}".rstrip()]
        bodies = (("body", binding.body), ("answer", binding.response_body))
        facts += [f"{name} {value}" for name, value in bodies if value]
        yield f"route {binding.http_method} {binding.template.text}", ", ".join(facts)
    for path, item in static_paths().items():
        for method, operation in item.items():
            shown = [" and ".join(sorted(one)) or "nothing" for one in operation["security"]] or ["nothing"]
            yield f"route {method.upper()} {path}", f"access {' or '.join(shown)}"


def _reasons(sources: Mapping[str, FileDescriptorProto]) -> Iterator[tuple[str, str]]:
    comments = read_comments(dict(sources))
    for name, number in ErrorReason.items():
        mapping = TABLE[ErrorReason.ValueType(number)]
        yield f"reason {name}", f"number {number}, {mapping.code.name}, HTTP {mapping.http}"
        for key in _metadata_keys(comments.get(f"{_ENUM}.{name}", "")):
            yield f"reason {name} metadata {key}", "text"


def _metadata_keys(comment: str) -> list[str]:
    """The keys in the example that stands in a reason's comment."""
    example = "".join(part for part in comment.split("\n\n") if part.startswith("    "))
    return list(json.loads(example)["metadata"]) if example else []


def _metadata() -> Iterator[tuple[str, str]]:
    for key in (TRACEPARENT, TRACESTATE, DETAILS_KEY, AUTHORIZATION, WRITE_KEY):
        yield f"metadata {key}", "call"


def _record_headers(encoder: str) -> Iterator[tuple[str, str]]:
    """The names of headers are constants of the one module that writes them, or ones that it imports."""
    for node in ast.walk(ast.parse(encoder)):
        match node:
            case ast.Tuple(elts=[ast.Constant(value=str(name)), _]):
                pass
            case ast.Tuple(elts=[ast.Name(id=variable), _]):
                name = str(getattr(encode, variable, ""))
            case _:
                continue
        if _RECORD_HEADER.fullmatch(name):
            yield f"record header {name}", "Kafka"


_LOST: Final = """
Clients in the field rely on what was lost or changed. Keep it: a route stays beside its successor, as one of its
additional_bindings; a reason and a key stay, and their comments say that they are deprecated. Only what no client can
have seen yet may go: take its line out of proto/contract.lock by hand, and say why in the commit.
"""
_ADD: Final = """
To add what is new, run `make proto` (or `python tools/contract_lock.py`) and commit proto/contract.lock with it.
"""


def main(arguments: list[str]) -> int:
    """Add what is new to the lock, or with `--check` compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args(arguments).check
    current = current_entries(build_sources(), ENCODER.read_text(encoding="utf-8"))
    change = compare(read_lock(LOCK), current)
    if change.broken:
        print("\n".join(change.broken) + _LOST)
        return 1
    if check and change.added:
        print("\n".join(change.added) + _ADD)
        return 1
    if change.added:
        LOCK.write_text(json.dumps(current, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
