"""Query parameters: the fields that neither the path nor the body binds, each under its dotted path."""

import re
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor

from gateway.decode.types import MAX_DEPTH
from gateway.transcode.binding import FieldPath, dotted, field_path
from gateway.transcode.fields import fill_texts, is_map, refuse
from gateway.transcode.wellknown import has_text_form, is_well_known

_ESCAPES: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_MOST_PARAMETERS: Final = 1_000


def fill_query(message: Any, query: str, *, bound: Collection[str], body: str) -> None:
    """Set a request's fields from its query.

    Args:
        message: Where they are set.
        query: What follows the question mark, as it was sent.
        bound: The fields that the path binds; it wins, so they must not stand here.
        body: The binding's body: the field that it is, `*` for all, empty for none.

    Raises:
        InvalidArgument: A parameter is unknown, bound elsewhere, given twice, of another type, or badly escaped.
    """
    given: dict[FieldPath, list[str]] = {}
    for name, text in _parse(query):
        path = field_path(message.DESCRIPTOR, name)
        if path is None or not _fits(path):
            raise refuse(name, "is no parameter of this call", "unknown_field")
        at = dotted(path)
        if at in bound:
            raise refuse(at, "stands in the path, so it must not stand in the query", "collision")
        if body in {"*", path[0].name}:
            raise refuse(at, "belongs in the body", "unknown_field")
        # Under one key, whichever of its two names it came by.
        given.setdefault(path, []).append(text)
    for path, texts in given.items():
        fill_texts(message, path, texts)


def query_fields(message: Descriptor, bound: Collection[str], body: str) -> list[FieldPath]:
    """The paths of all fields that a query can set, in the order of their declaration; a message in itself once."""
    return [] if body == "*" else list(_leaves(message, (), set(bound), body, frozenset()))


def _leaves(
    message: Descriptor, prefix: FieldPath, bound: set[str], body: str, above: frozenset[str]
) -> "list[FieldPath]":
    found: list[FieldPath] = []
    for field in message.fields:
        path = (*prefix, field)
        if dotted(path) in bound or (not prefix and field.name == body) or _is_shut_out(path, bound):
            continue
        inner = field.message_type
        if _fits(path):
            found.append(path)
        elif inner is not None and not field.is_repeated and inner.full_name not in above:
            found.extend(_leaves(inner, path, bound, body, above | {inner.full_name}))
    return found


def _is_shut_out(path: FieldPath, bound: set[str]) -> bool:
    """Whether another member of the field's oneof is bound by the path, so that this one cannot be set."""
    group, before = path[-1].containing_oneof, path[:-1]
    return group is not None and any(dotted((*before, field)) in bound for field in group.fields)


def _fits(path: FieldPath) -> bool:
    """Whether the last field can be written as text: a plain value, a list of such, or a message with a text form."""
    field = path[-1]
    # As deep as a body may be: protobuf's own writer gives up at a hundred levels, with a fault and not a refusal.
    if len(path) > MAX_DEPTH:
        return False
    if any(above.message_type is not None and is_well_known(above.message_type) for above in path[:-1]):
        return False
    if field.message_type is None:
        return True
    return not is_map(field) and not field.is_repeated and has_text_form(field.message_type)


def _parse(query: str) -> list[tuple[str, str]]:
    """The parameters, in the order in which they came."""
    if not query:
        return []
    if not _ESCAPES.fullmatch(query):
        raise refuse("query", "has a broken percent escape", "encoding")
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise refuse("query", "is not UTF-8", "encoding") from None
    except ValueError:
        raise refuse("query", f"has more than {_MOST_PARAMETERS} parameters", "encoding") from None
