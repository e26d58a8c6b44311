"""From a record's bytes to its message, by the schema id that stands in it.

Ids of clew's own registry are known to this program, for it was compiled from the same contracts. Any other is asked of
a registry, over HTTP, once: the gateway's or a Confluent-compatible one. A header that names the message
(`clew-schema`) helps where neither knows.
"""

import base64
import binascii
import importlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message

from cli.topic.records import Raw
from mesh.bus.framing import Framed, FramingError, split

_SECONDS: Final = 10


def _nobody(_: str) -> None:
    """Nobody is told."""


class UnknownSchema(Exception):
    """Raised when nobody knows a schema; the message says who was asked."""


@dataclass(frozen=True, slots=True)
class Read:
    """A record and what could be made of it: a message, or the reason why there is none.

    `schema_id` is None where the value is not in the wire format.
    """

    raw: Raw
    schema_id: int | None = None
    message: Message | None = None
    problem: str = ""

    @property
    def schema(self) -> str:
        """Full name of the message; empty where there is none."""
        return "" if self.message is None else str(self.message.DESCRIPTOR.full_name)


class Schemas:
    """Knows the types of values.

    Args:
        registry: URL of a registry; empty: none is asked.
        own: Whether that registry is a gateway's, so that its ids are those that this program knows.
        authorization: How to log in to it, as the header field says it; empty: nobody has to.
        tell: Told, once, why a registry that somebody named was of no use for a record that then was read without it.
    """

    def __init__(
        self,
        registry: str = "",
        *,
        own: bool = True,
        authorization: str = "",
        tell: Callable[[str], None] = _nobody,
    ) -> None:
        self._registry = registry.rstrip("/")
        self._fields = {"Authorization": authorization} if authorization else {}
        self._own = own or not registry
        self._tell = tell
        table = json.loads((resources.files("clew") / "registry.json").read_text(encoding="utf-8"))
        self._files: dict[int, str] = {schema["id"]: schema["file"] for schema in table["schemas"]}
        self._messages: tuple[str, ...] = tuple(table["messages"])
        self._types: dict[tuple[int, tuple[int, ...], str], type[Message] | UnknownSchema] = {}

    def read(self, raw: Raw) -> Read:
        """Decode a record; one that cannot be is told why, and keeps its bytes."""
        if raw.value is None:
            return Read(raw, problem="no value: a tombstone")
        try:
            framed = split(raw.value)
        except FramingError as error:
            return Read(raw, problem=f"not in the wire format: {error}")
        try:
            message = self._type(framed, raw.header("clew-schema")).FromString(framed.payload)
        except (UnknownSchema, DecodeError) as error:
            return Read(raw, framed.schema_id, problem=str(error))
        return Read(raw, framed.schema_id, message)

    def _type(self, framed: Framed, header: str) -> type[Message]:
        # The name belongs to it: records of two registries, with one number for two schemas, may stand on one topic.
        place = (framed.schema_id, framed.message_index, header.partition(";")[0])
        found = self._types.get(place)
        if found is None:
            try:
                found = self._find(framed, place[2])
            except UnknownSchema as error:
                found = error
            self._types[place] = found
        if isinstance(found, UnknownSchema):
            raise found
        return found

    def _find(self, framed: Framed, named: str) -> type[Message]:
        """Ours, the registry's, or the one that the record names.

        Raises:
            UnknownSchema: It is none of these.
        """
        if self._own and (built_in := self._built_in(framed, named)):
            return built_in
        problem = "no registry was named (--registry URL)"
        if self._registry:
            try:
                return self._fetch(framed)
            except UnknownSchema as error:
                problem = str(error)
        if named in self._messages and (known := _message_of(self._files.values(), named)):
            if not self._own:
                self._say(f"{problem}: records are read by the name that stands in their headers, as clew's own")
            return known
        raise UnknownSchema(f"schema {framed.schema_id} is not one of clew's, and {problem}")

    def _say(self, text: str) -> None:
        tell, self._tell = self._tell, _nobody
        tell(text)

    def _built_in(self, framed: Framed, named: str) -> type[Message] | None:
        file = self._files.get(framed.schema_id, "")
        if not file.startswith("clew/"):
            return None
        descriptor = _at(_module(file), framed.message_index)
        # Another registry may have given the same number to another schema: the record's own word counts.
        if descriptor is None or (named and named != descriptor.full_name):
            return None
        return message_factory.GetMessageClass(descriptor)

    def _fetch(self, framed: Framed) -> type[Message]:
        schema = self._get(f"/schemas/ids/{framed.schema_id}?format=serialized")
        pool = descriptor_pool.DescriptorPool()
        try:
            file = self._add(pool, schema, {})
            descriptor = _at(file, framed.message_index)
        except (KeyError, TypeError, ValueError, DecodeError, binascii.Error) as error:
            raise UnknownSchema(f"{self._registry} has a schema that cannot be used: {error}") from error
        if descriptor is None:
            raise UnknownSchema(f"{self._registry} has a schema without a message {list(framed.message_index)}")
        return message_factory.GetMessageClass(descriptor)

    def _add(
        self, pool: descriptor_pool.DescriptorPool, schema: dict[str, Any], added: dict[str, bool]
    ) -> FileDescriptor:
        """Add a schema's file to a pool, what it imports first."""
        for reference in schema.get("references") or ():
            if reference["name"] not in added:
                added[reference["name"]] = True
                subject, version = quote(reference["subject"], safe=""), int(reference["version"])
                self._add(pool, self._get(f"/subjects/{subject}/versions/{version}?format=serialized"), added)
        proto = FileDescriptorProto.FromString(base64.b64decode(schema["schema"], validate=True))
        for name in proto.dependency:
            _add_well_known(pool, name)
        pool.Add(proto)
        return pool.FindFileByName(proto.name)

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._registry}{path}", headers=self._fields)  # noqa: S310 - see below
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - the user's own registry
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise UnknownSchema(f"the registry at {self._registry} answers {error.code}") from error
        except (OSError, ValueError) as error:
            raise UnknownSchema(f"the registry at {self._registry} cannot be asked: {error}") from error


def _module(file: str) -> FileDescriptor:
    descriptor: FileDescriptor = importlib.import_module(
        file.removesuffix(".proto").replace("/", ".") + "_pb2"
    ).DESCRIPTOR
    return descriptor


def _message_of(files: Any, full_name: str) -> type[Message] | None:
    for file in sorted(set(files)):
        if file.startswith("clew/"):
            for message in _module(file).message_types_by_name.values():
                if message.full_name == full_name:
                    return message_factory.GetMessageClass(message)
    return None


def _at(file: FileDescriptor, index: tuple[int, ...]) -> Descriptor | None:
    """The message at an index of the wire format; None when there is none."""
    within: Any = list(file.message_types_by_name.values())
    found: Descriptor | None = None
    for step in index:
        if step >= len(within):
            return None
        found = within[step]
        within = list(found.nested_types)
    return found


def _add_well_known(pool: descriptor_pool.DescriptorPool, name: str) -> None:
    """Add an import that registries leave out: Google's own files."""
    try:
        pool.FindFileByName(name)
    except KeyError:
        known = FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(known)
        for inner in known.dependency:
            _add_well_known(pool, inner)
        pool.Add(known)
