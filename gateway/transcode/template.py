"""Path templates of `google.api.http` (google/api/http.proto, "Path template syntax").

    Template = "/" Segments [ ":" LITERAL ]
    Segment  = "*" | "**" | LITERAL | "{" FieldPath [ "=" Segments ] "}"

A path is matched as it was sent and decoded afterwards, so that an escaped slash never separates: a variable of one
segment is decoded whole; one that may hold several keeps `%2F`, by which its own slashes can be told from those inside
of a segment.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

ANY: Final = "*"
REST: Final = "**"

_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;@-]|%[0-9A-Fa-f]{2})+")
_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_ESCAPED_SLASH = re.compile(r"(%2[Ff])")
# A slash inside of braces separates nothing on the level around it.
_SEGMENT = re.compile(r"\{[^{}]*\}|[^/{}]+")


class TemplateError(ValueError):
    """Raised when a contract holds a template that breaks the syntax: a fault of the contract, found at start."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What a template captures: the field that it goes to, and the segments `[start, end)` that it covers.

    `end` is 0 where the variable ends with `**`: it then covers all that is left.
    """

    field_path: str
    start: int
    end: int
    single: bool
    """It covers exactly one segment, so that its value is decoded whole."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template, taken apart: its segments are decoded literals, `*` or `**`."""

    text: str
    segments: tuple[str, ...]
    literal: tuple[bool, ...]
    """Which segments are literals: a literal may be spelled `*` only by an escape."""
    variables: tuple[Variable, ...]
    verb: str

    def capture(self, segments: Sequence[str]) -> dict[str, str]:
        """The value of each variable for the segments of a path that this template matches, without the verb."""
        return {variable.field_path: _value(variable, segments) for variable in self.variables}


def parse_template(text: str) -> Template:
    """Take a template apart.

    Raises:
        TemplateError: It breaks the syntax, has a `**` that is not last, or captures one field twice.
    """
    if not text.startswith("/"):
        raise TemplateError(f"{text}: does not begin with a slash")
    body, verb = _split_verb(text)
    pieces: list[str] = []
    spans: list[tuple[str, int, int]] = []
    for piece in _split(body[1:], text):
        start = len(pieces)
        if piece.startswith("{"):
            name, _, inner = piece[1:-1].partition("=")
            pieces.extend(_split(inner, text) if "=" in piece else [ANY])
            spans.append((name, start, len(pieces)))
        else:
            pieces.append(piece)
    _check(text, pieces, [name for name, _, _ in spans])
    literal = tuple(piece not in {ANY, REST} for piece in pieces)
    segments = tuple(unquote(piece) if own else piece for piece, own in zip(pieces, literal, strict=True))
    return Template(text, segments, literal, tuple(_variable(span, pieces) for span in spans), unquote(verb))


def split_path(path: str) -> list[str]:
    """The segments of a path as it was sent, still escaped."""
    return path[1:].split("/")


def _split_verb(text: str) -> tuple[str, str]:
    """The template without its verb, and the verb; a colon before the last brace or slash belongs to neither."""
    at = text.rfind(":")
    if at <= max(text.rfind("/"), text.rfind("}") - 1):
        return text, ""
    verb = text[at + 1 :]
    if not _LITERAL.fullmatch(verb):
        raise TemplateError(f"{text}: the verb is no literal")
    return text[:at], verb


def _split(body: str, text: str) -> list[str]:
    pieces = _SEGMENT.findall(body)
    if not pieces or "/".join(pieces) != body:
        raise TemplateError(f"{text}: a segment is empty, or a brace stands where none may")
    return pieces


def _check(text: str, pieces: list[str], names: list[str]) -> None:
    for piece in pieces:
        if piece not in {ANY, REST} and not _LITERAL.fullmatch(piece):
            raise TemplateError(f"{text}: {piece} is neither a wildcard, a variable nor a literal")
    if REST in pieces[:-1]:
        raise TemplateError(f"{text}: ** must be the last segment")
    for name in names:
        if not _FIELD_PATH.fullmatch(name):
            raise TemplateError(f"{text}: {name!r} is no field path")
    if len(set(names)) != len(names):
        raise TemplateError(f"{text}: one field is captured twice")


def _variable(span: tuple[str, int, int], pieces: list[str]) -> Variable:
    name, start, end = span
    open_ended = REST in pieces[start:end]
    return Variable(name, start, 0 if open_ended else end, single=end - start == 1 and not open_ended)


def _value(variable: Variable, segments: Sequence[str]) -> str:
    covered = segments[variable.start : variable.end or None]
    if variable.single:
        return unquote(covered[0])
    return "/".join(_keep_slashes(segment) for segment in covered)


def _keep_slashes(segment: str) -> str:
    if "%" not in segment:
        return segment
    parts = _ESCAPED_SLASH.split(segment)
    return "".join(part if _ESCAPED_SLASH.fullmatch(part) else unquote(part) for part in parts)
