"""Our schemas in a registry that is not ours: what it has of them, what it lacks, and registering that.

Everything goes in the order of dependency, each subject's versions oldest first. Versions and ids are the registry's
own, so a reference names the version that the registry gave to what is imported.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from mesh.registry.outside import OutsideRegistry, Registered
from mesh.registry.rules import breaking_changes
from mesh.registry.table import Reference, RegisteredSchema, SchemaTable

_GOOGLES: Final = "google/protobuf/"


class IncompatibleSchema(Exception):
    """A schema would break the readers of what the registry has; the message says which and how."""


class SchemaMissing(Exception):
    """A schema that is about to be published is not registered; the message says which."""


@dataclass(frozen=True, slots=True)
class Step:
    """One version of one of our subjects, and where the registry has it; None: it is to be registered."""

    subject: str
    version: int
    schema: RegisteredSchema
    registered: Registered | None


class Publishing:
    """A walk through our table and a registry.

    Args:
        table: Our schemas.
        registry: The one that is not ours.
    """

    def __init__(self, table: SchemaTable, registry: OutsideRegistry) -> None:
        self._table = table
        self._registry = registry
        self._places: dict[tuple[str, int], Registered] = {}

    def plan(self) -> list[Step]:
        """What the registry has and what it lacks; changes nothing.

        A version that it lacks while it has a later one is left out: nobody needs it there any more.

        Raises:
            IncompatibleSchema: What it lacks cannot follow what it has.
            OutsideRegistryError: It does not answer, or refuses.
        """
        steps = [
            Step(subject, version, schema, self._find(subject, version, schema))
            for subject, version, schema in self._in_order()
        ]
        newest: dict[str, int] = {}
        for step in steps:
            if step.registered is not None:
                newest[step.subject] = max(step.version, newest.get(step.subject, 0))
        needed = [step for step in steps if step.registered is not None or step.version > newest.get(step.subject, 0)]
        for step in needed:
            if step.registered is None:
                self._check(step.subject, step.schema)
        return needed

    def apply(self) -> Iterator[Step]:
        """Register what is lacking; yields each of its steps as it is done.

        Raises:
            IncompatibleSchema: As `plan`; nothing was registered then.
            SchemaMissing: The registry lacks what a schema imports, though it has a later version of it.
            OutsideRegistryError: It does not answer, or refuses; what was registered before stays.
        """
        for step in self.plan():
            if step.registered is not None:
                continue
            references = self._references(step.schema)
            if references is None:
                raise SchemaMissing(f"{step.subject} version {step.version}: the registry lacks what it imports")
            place = self._registry.register(step.subject, step.schema, references)
            self._places[step.subject, step.version] = place
            yield replace(step, registered=place)

    def published(self) -> dict[str, int]:
        """The registry's ids of what is published, by the full name of the message; only reads.

        Raises:
            SchemaMissing: One is not registered.
            OutsideRegistryError: The registry does not answer, or refuses.
        """
        return {message: self.id_of(message) for message in self._table.messages}

    def id_of(self, message: str) -> int:
        """The registry's id of the newest schema of a message; only reads.

        Raises:
            SchemaMissing: It is not registered.
            OutsideRegistryError: The registry does not answer, or refuses.
        """
        identifier = self._table.messages[message]
        needed = self._table.schemas[identifier]
        subject, version = self._table.uses(identifier)[0]
        wanted = {(used.subject, used.version) for used in needed.references} | {(subject, version)}
        for place in self._in_order():
            known = place[:2] in self._places
            if place[:2] in wanted and not known and self._find(*place) is None:
                raise SchemaMissing(f"{message}: {place[0]} is not registered as this version of clew has it")
        return self._places[subject, version].id

    def _in_order(self) -> Iterator[tuple[str, int, RegisteredSchema]]:
        """Every version of every subject, each after what it imports and after earlier ones."""
        # An id is given after those of what is imported, and to a later version later.
        versions = [
            (subject, version, self._table.schemas[identifier])
            for subject, ids in self._table.subjects.items()
            for version, identifier in enumerate(ids, start=1)
        ]
        return iter(sorted(versions, key=lambda one: one[2].id))

    def _find(self, subject: str, version: int, schema: RegisteredSchema) -> Registered | None:
        references = self._references(schema)
        found = None if references is None else self._registry.find(subject, schema, references)
        if found is not None:
            self._places[subject, version] = found
        return found

    def _references(self, schema: RegisteredSchema) -> list[Reference] | None:
        """Its imports at their places in the registry; None where one of them is not there."""
        places = [(used, self._places.get((used.subject, used.version))) for used in schema.references]
        if any(place is None for _, place in places):
            return None
        return [Reference(used.name, used.subject, place.version) for used, place in places if place is not None]

    def _check(self, subject: str, schema: RegisteredSchema) -> None:
        """By our rules, which are buf's, whatever the registry is set to; and by the registry's own."""
        newest = self._registry.newest(subject)
        if newest is None:
            return
        # Google's files may be there in another edition, for somebody else: that is the registry's business.
        old = None if subject.startswith(_GOOGLES) else _descriptor(newest)
        broken = [] if old is None else breaking_changes(old, schema.file_descriptor())
        references = self._references(schema)
        broken += [] if references is None else self._registry.objections(subject, schema, references)
        if broken:
            raise IncompatibleSchema(f"{subject}: cannot follow the newest version there: {'; '.join(broken)}")


def _descriptor(schema: str) -> FileDescriptorProto | None:
    """What the registry gave, where it is a descriptor; a text is left to the registry's own check."""
    try:
        return FileDescriptorProto.FromString(_raw(schema))
    except (binascii.Error, ValueError, DecodeError):
        return None


def _raw(schema: str) -> bytes:
    return base64.b64decode(schema, validate=True)
