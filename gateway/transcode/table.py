"""Which template does a path match? A tree of segments a method: literals go before `*`, and `*` before `**`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from gateway.transcode.template import ANY, REST, Template, TemplateError, split_path

T = TypeVar("T")
ANY_METHOD: Final = "*"
"""The method of a custom pattern that leaves it open."""


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """What a path means: the entry of its template, and the text that each variable captured."""

    entry: T
    captured: dict[str, str]


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: "dict[str, _Node[T]]" = field(default_factory=dict)
    any: "_Node[T] | None" = None
    rest: "dict[str, tuple[Template, T]]" = field(default_factory=dict)
    """By verb: the templates that end here with `**`."""
    ends: "dict[str, tuple[Template, T]]" = field(default_factory=dict)
    """By verb: the templates that end here."""


class RouteTable(Generic[T]):
    """Templates by method, each with an entry of the caller's own."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node[T]] = {}

    def add(self, method: str, template: Template, entry: T) -> None:
        """Add a template for a method, `*` for any.

        Raises:
            TemplateError: Another template matches the very same paths.
        """
        node = self._roots.setdefault(method, _Node())
        open_ended = template.segments[-1] == REST and not template.literal[-1]
        fixed = len(template.segments) - open_ended
        for segment, literal in zip(template.segments[:fixed], template.literal[:fixed], strict=True):
            node = _child(node, segment, literal=literal)
        ends = node.rest if open_ended else node.ends
        if template.verb in ends:
            raise TemplateError(f"{method} {template.text}: {ends[template.verb][0].text} matches the same paths")
        ends[template.verb] = (template, entry)

    def find(self, method: str, path: str) -> Match[T] | None:
        """The entry for a method and a path as it was sent; HEAD finds what GET finds."""
        for own in (method, *(("GET",) if method == "HEAD" else ()), ANY_METHOD):
            root = self._roots.get(own)
            match = None if root is None else _find(root, path)
            if match is not None:
                return match
        return None

    def methods(self, path: str) -> set[str]:
        """The methods for which a path has an entry."""
        return {method for method, root in self._roots.items() if _find(root, path) is not None}


def _child(node: _Node[T], segment: str, *, literal: bool) -> _Node[T]:
    if literal:
        return node.literals.setdefault(segment, _Node())
    if node.any is None:
        node.any = _Node()
    return node.any


def _find(root: _Node[T], path: str) -> Match[T] | None:
    segments = split_path(path)
    for last, verb in _readings(segments[-1]):
        read = [*segments[:-1], last]
        found = _walk(root, read, 0, verb)
        if found is not None:
            return Match(found[1], found[0].capture(read))
    return None


def _readings(last: str) -> Iterator[tuple[str, str]]:
    """The ways to read a last segment: with what follows its last colon as the verb, and with no verb at all."""
    before, colon, verb = last.rpartition(":")
    if colon and verb:
        yield before, unquote(verb)
    yield last, ""


def _walk(node: _Node[T], segments: Sequence[str], at: int, verb: str) -> tuple[Template, T] | None:
    if at == len(segments):
        # `**` matches no segments too.
        return node.ends.get(verb) or node.rest.get(verb)
    segment = segments[at]
    child = node.literals.get(unquote(segment))
    found = None if child is None else _walk(child, segments, at + 1, verb)
    if found is None and node.any is not None and segment:
        found = _walk(node.any, segments, at + 1, verb)
    # What is captured never begins with a slash, so an empty segment begins a rest only as the whole of it.
    if found is None and (segment or at + 1 == len(segments)):
        found = node.rest.get(verb)
    return found


__all__ = ["ANY", "ANY_METHOD", "Match", "RouteTable"]
