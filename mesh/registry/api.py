"""The registry's answers to the requests of Confluent's clients.

A function from requests to answers: who serves it over HTTP sends a `str` as it is and anything else as JSON, both as
`CONTENT_TYPE`. Source: Confluent's "Schema Registry API Reference".
"""

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from mesh.registry.canonical import fingerprint
from mesh.registry.rules import breaking_changes
from mesh.registry.table import (
    INVALID_SCHEMA,
    NOT_FOUND,
    READ_ONLY,
    Reference,
    RegisteredSchema,
    RegistryError,
    SchemaTable,
    references_of,
    whole_number,
)

CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"

Answer = tuple[int, object]
Query = Mapping[str, str]


class SchemaRegistry:
    """The registry over one compiled table.

    Args:
        table: The table, see `SchemaTable`.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = SchemaTable(table)

    @staticmethod
    def load(source: Traversable) -> "SchemaRegistry":
        """Read the table from a JSON file: a path, or one of a package by `importlib.resources.files`."""
        return SchemaRegistry(json.loads(source.read_text(encoding="utf-8")))

    @property
    def table(self) -> SchemaTable:
        """What it is over."""
        return self._table

    def schema_id(self, message: str) -> int:
        """The id of the newest schema whose first message has this full name.

        Raises:
            KeyError: No subject carries such a message.
        """
        return self._table.messages[message]

    def answer(self, method: str, path: str, query: Query, body: bytes = b"") -> Answer:
        """Answer any request; what would write is refused.

        Args:
            method: GET, POST, ...
            path: Below the registry's root, from the first `/`, percent-encoded or not.
            query: The query's parameters, decoded.
            body: The request's body.

        Returns:
            The status, and the body: a `str` to be sent as it is, anything else as JSON.
        """
        if method in {"GET", "HEAD"}:
            return self.handle(path, query)
        decoded = unquote(path).rstrip("/")
        if method == "POST" and (subject := _LOOKUP.fullmatch(decoded)):
            return self.lookup(subject.group(1), query, body)
        if method == "POST" and (asked := _COMPATIBILITY.fullmatch(decoded)):
            return self.compatibility(asked.group(1), asked.group(2), query, body)
        return _error(405, READ_ONLY, "The registry is read-only: its content is compiled from the contracts")

    def handle(self, path: str, query: Query) -> Answer:
        """Answer a GET; see `answer`."""
        decoded = unquote(path).rstrip("/") or "/"
        for pattern, view in _ROUTES:
            found = pattern.fullmatch(decoded)
            if found:
                try:
                    return 200, view(self._table, query, *found.groups())
                except RegistryError as error:
                    return _error(error.status, error.code, str(error))
        return _error(404, NOT_FOUND, "HTTP 404 Not Found")

    def lookup(self, subject: str, query: Query, body: bytes) -> Answer:
        """Find the version of a subject whose schema is the given one: what serializers do that may not register."""
        given = _given(body)
        if given is None:
            return _error(400, INVALID_SCHEMA, "The body is no schema")
        schema, references = given
        try:
            version, found = self._table.find(subject, schema, references)
        except RegistryError as error:
            return _error(error.status, error.code, str(error))
        return 200, {"subject": subject, "version": version, "id": found.id, **_describe(found, query)}

    def compatibility(self, subject: str, version: str | None, query: Query, body: bytes) -> Answer:
        """Whether a schema could follow one version of a subject, or without a version all of them, by buf's rules.

        It is compared as a descriptor. A text is only known as that of a version: there is no compiler here.
        """
        given = _given(body)
        if given is None:
            return _error(400, INVALID_SCHEMA, "The body is no schema")
        try:
            ids = self._table.versions(subject)
            wanted = ids if version is None else [self._table.version(subject, version)[1].id]
        except RegistryError as error:
            return _error(error.status, error.code, str(error))
        new = self._descriptor(given[0], ids)
        if new is None:
            return _error(422, INVALID_SCHEMA, _ONLY_DESCRIPTORS)
        messages = [
            message for each in wanted for message in breaking_changes(self._table.schemas[each].file_descriptor(), new)
        ]
        answer: dict[str, object] = {"is_compatible": not messages}
        if query.get("verbose") == "true":
            answer["messages"] = messages
        return 200, answer

    def _descriptor(self, schema: str, ids: Sequence[int]) -> FileDescriptorProto | None:
        """What a schema says, given as a descriptor or as the text of a version of ours."""
        try:
            return FileDescriptorProto.FromString(base64.b64decode(schema, validate=True))
        except (binascii.Error, ValueError, DecodeError):
            known = (self._table.schemas[each] for each in ids)
            text = fingerprint(schema)
            return next((each.file_descriptor() for each in known if fingerprint(each.text) == text), None)


def _given(body: bytes) -> tuple[str, tuple[Reference, ...]] | None:
    """The schema and the references of a request; None where it has none."""
    try:
        wanted = json.loads(body)
        return str(wanted["schema"]), references_of(wanted.get("references") or ())
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _error(status: int, code: int, message: str) -> Answer:
    return status, {"error_code": code, "message": message}


def _text(schema: RegisteredSchema, query: Query) -> str:
    """The schema in the format that the query asks for."""
    return schema.serialized if query.get("format") == "serialized" else schema.text


def _describe(schema: RegisteredSchema, query: Query) -> dict[str, object]:
    references = [dataclasses.asdict(reference) for reference in schema.references]
    return {"schemaType": "PROTOBUF", "schema": _text(schema, query), "references": references}


def _page(items: list[Any], query: Query) -> list[Any]:
    """The part of a list that `offset` and `limit` ask for; a limit below zero is none."""
    offset, limit = _number(query.get("offset"), 0), _number(query.get("limit"), -1)
    return items[offset:] if limit < 0 else items[offset : offset + limit]


def _number(text: str | None, otherwise: int) -> int:
    return otherwise if text is None else whole_number(text, otherwise)


def _only_deleted(query: Query) -> bool:
    """Whether what was deleted is asked for, and nothing else: nothing ever is."""
    return query.get("deletedOnly") == "true"


# The views: one for each path below, given the table, the query and the path's parts. RegistryError is an answer.


def _root(_table: SchemaTable, _query: Query) -> object:
    return {}


def _types(_table: SchemaTable, _query: Query) -> object:
    return ["PROTOBUF"]


def _contexts(_table: SchemaTable, _query: Query) -> object:
    return ["."]


def _schema_by_id(table: SchemaTable, query: Query, identifier: str) -> object:
    return _describe(table.schema(identifier), query)


def _text_by_id(table: SchemaTable, query: Query, identifier: str) -> object:
    return _text(table.schema(identifier), query)


def _schemas(table: SchemaTable, query: Query) -> object:
    """All versions of all subjects, or with `latestOnly` the newest ones."""
    prefix, latest = query.get("subjectPrefix", ""), query.get("latestOnly") == "true"
    found: list[object] = []
    for subject, ids in sorted(table.subjects.items()):
        if subject.startswith(prefix):
            numbers = range(len(ids), len(ids) + 1) if latest else range(1, len(ids) + 1)
            found += [_schema_by_version(table, query, subject, str(number)) for number in numbers]
    return _page(found, query)


def _uses_of_id(table: SchemaTable, query: Query, identifier: str) -> list[tuple[str, int]]:
    uses = table.uses(table.schema(identifier).id)
    return [(subject, version) for subject, version in uses if query.get("subject", subject) == subject]


def _subjects_of_id(table: SchemaTable, query: Query, identifier: str) -> object:
    return _page(sorted({subject for subject, _ in _uses_of_id(table, query, identifier)}), query)


def _versions_of_id(table: SchemaTable, query: Query, identifier: str) -> object:
    uses = _uses_of_id(table, query, identifier)
    return _page([{"subject": subject, "version": version} for subject, version in uses], query)


def _subjects(table: SchemaTable, query: Query) -> object:
    prefix = query.get("subjectPrefix", "")
    found = [] if _only_deleted(query) else sorted(table.subjects)
    return _page([subject for subject in found if subject.startswith(prefix)], query)


def _versions(table: SchemaTable, query: Query, subject: str) -> object:
    count = len(table.versions(subject))
    return _page([] if _only_deleted(query) else list(range(1, count + 1)), query)


def _schema_by_version(table: SchemaTable, query: Query, subject: str, version: str) -> object:
    number, schema = table.version(subject, version)
    return {"subject": subject, "version": number, "id": schema.id, **_describe(schema, query)}


def _text_by_version(table: SchemaTable, query: Query, subject: str, version: str) -> object:
    return _text(table.version(subject, version)[1], query)


def _importers(table: SchemaTable, query: Query, subject: str, version: str) -> object:
    return _page(table.importers(subject, table.version(subject, version)[0]), query)


def _config(table: SchemaTable, _query: Query, subject: str | None) -> object:
    if subject is not None:
        table.versions(subject)
    # Every version passed `buf breaking`, which is at least as strict.
    return {"compatibilityLevel": "FULL"}


def _mode(table: SchemaTable, _query: Query, subject: str | None) -> object:
    if subject is not None:
        table.versions(subject)
    return {"mode": "READONLY"}


# A subject may hold slashes, and those of imported files do, so the parts after it are matched from the end.
_ROUTES: Final[list[tuple[re.Pattern[str], Callable[..., object]]]] = [
    (re.compile(pattern), view)
    for pattern, view in (
        (r"/", _root),
        (r"/contexts", _contexts),
        (r"/schemas", _schemas),
        (r"/schemas/types", _types),
        (r"/schemas/ids/([^/]+)", _schema_by_id),
        (r"/schemas/ids/([^/]+)/schema", _text_by_id),
        (r"/schemas/ids/([^/]+)/subjects", _subjects_of_id),
        (r"/schemas/ids/([^/]+)/versions", _versions_of_id),
        (r"/subjects", _subjects),
        (r"/subjects/(.+)/versions", _versions),
        (r"/subjects/(.+)/versions/([^/]+)", _schema_by_version),
        (r"/subjects/(.+)/versions/([^/]+)/schema", _text_by_version),
        (r"/subjects/(.+)/versions/([^/]+)/referencedby", _importers),
        (r"/config(?:/(.+))?", _config),
        (r"/mode(?:/(.+))?", _mode),
    )
]
# `/subjects/{subject}/versions` would be a registration, and no file that is imported ends in `/versions`.
_LOOKUP: Final = re.compile(r"/subjects/(.+?)(?<!/versions)")
_COMPATIBILITY: Final = re.compile(r"/compatibility/subjects/(.+)/versions(?:/([^/]+))?")
_ONLY_DESCRIPTORS: Final = (
    "This registry compares descriptors: send the base64 of a serialized FileDescriptorProto,"
    " or compare proto files by `buf breaking`"
)
