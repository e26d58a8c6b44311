"""The registry's content: schemas by id, and for each subject the ids of its versions."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mesh.registry.canonical import fingerprint

MOST: Final = 2**31 - 1
"""The greatest id and version of the API."""
_MOST_DIGITS: Final = 20

# Error codes of the API.
INVALID_SCHEMA: Final = 42201
INVALID_VERSION: Final = 42202
NOT_FOUND: Final = 404
READ_ONLY: Final = 42205
SCHEMA_NOT_FOUND: Final = 40403
SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402


class RegistryError(Exception):
    """A request that only an error answers.

    Args:
        status: The HTTP status.
        code: The API's own code.
        message: What is wrong, for people.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Reference:
    """An import of a schema: the name in the import statement, and the subject and version that hold the file."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """One schema: a proto file, as text and as base64 of its serialized descriptor, and what it imports."""

    id: int
    text: str
    serialized: str
    references: tuple[Reference, ...]

    @property
    def descriptor(self) -> bytes:
        """The serialized file descriptor."""
        return base64.b64decode(self.serialized)

    def file_descriptor(self) -> FileDescriptorProto:
        """What the schema says."""
        return FileDescriptorProto.FromString(self.descriptor)


class SchemaTable:
    """The compiled table, read-only.

    Args:
        table: As `json.loads` gives it: `schemas`, `subjects` (ids in the order of their versions) and `messages` (full
            name to the newest id).
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        schemas = map(_schema, table["schemas"])
        self.schemas = {schema.id: schema for schema in schemas}
        self.subjects: Mapping[str, Sequence[int]] = dict(table["subjects"])
        self.messages: Mapping[str, int] = dict(table["messages"])

    def schema(self, identifier: str) -> RegisteredSchema:
        """The schema with this id.

        Raises:
            RegistryError: There is none.
        """
        schema = self.schemas.get(whole_number(identifier, -1))
        if schema is None:
            raise RegistryError(404, SCHEMA_NOT_FOUND, f"Schema {identifier} not found")
        return schema

    def versions(self, subject: str) -> Sequence[int]:
        """The ids of a subject's versions, oldest first.

        Raises:
            RegistryError: There is no such subject.
        """
        if subject not in self.subjects:
            raise RegistryError(404, SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def version(self, subject: str, version: str) -> tuple[int, RegisteredSchema]:
        """A version's number and schema; `latest` and `-1` mean the newest.

        Raises:
            RegistryError: It can be no version, or there is no such subject or version.
        """
        latest = version in {"latest", "-1"}
        number = whole_number(version, 0)
        if not latest and not 1 <= number <= MOST:
            raise RegistryError(422, INVALID_VERSION, f"A version is 1 to {MOST}, or 'latest'; this is none")
        ids = self.versions(subject)
        number = len(ids) if latest else number
        if number > len(ids):
            raise RegistryError(404, VERSION_NOT_FOUND, f"Version {version} not found.")
        return number, self.schemas[ids[number - 1]]

    def uses(self, identifier: int) -> list[tuple[str, int]]:
        """The subjects and versions that hold a schema."""
        return [
            (subject, version)
            for subject, ids in sorted(self.subjects.items())
            for version, found in enumerate(ids, start=1)
            if found == identifier
        ]

    def importers(self, subject: str, version: int) -> list[int]:
        """The ids of the schemas that import a version of a subject."""
        return sorted(
            schema.id
            for schema in self.schemas.values()
            if any((used.subject, used.version) == (subject, version) for used in schema.references)
        )

    def find(self, subject: str, schema: str, references: Sequence[Reference]) -> tuple[int, RegisteredSchema]:
        """The newest version of a subject that is the given schema and has the given references among its own.

        Raises:
            RegistryError: There is no such subject, or none of its versions is this schema.
        """
        wanted = fingerprint(schema)
        for version, identifier in reversed(list(enumerate(self.versions(subject), start=1))):
            known = self.schemas[identifier]
            same = wanted in {fingerprint(known.serialized), fingerprint(known.text)}
            if same and set(references) <= set(known.references):
                return version, known
        raise RegistryError(404, SCHEMA_NOT_FOUND, "Schema not found")


def whole_number(text: str, otherwise: int) -> int:
    """The number that a request writes in digits; one beyond `MOST` is one more than that, what is none `otherwise`."""
    if not (text.isascii() and text.isdigit()):
        return otherwise
    # Not read when it is long: Python takes no more than 4,300 digits.
    return min(int(text), MOST + 1) if len(text) <= _MOST_DIGITS else MOST + 1


def references_of(entries: Sequence[Mapping[str, Any]]) -> tuple[Reference, ...]:
    """References as JSON has them.

    Raises:
        KeyError: A name, subject or version is missing.
    """
    return tuple(Reference(str(entry["name"]), str(entry["subject"]), int(entry["version"])) for entry in entries)


def _schema(entry: Mapping[str, Any]) -> RegisteredSchema:
    return RegisteredSchema(entry["id"], entry["schema"], entry["serialized"], references_of(entry["references"]))
