"""What Google's own client library makes of a request, we read back: `google.api_core.path_template.transcode`."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from google.api_core import path_template
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.target import split_target
from gateway.transcode.binding import Binding, bindings_of
from gateway.transcode.route import Route
from gateway.transcode.table import RouteTable
from tests.gateway.transcode.library import library, message

# What a path segment may hold: any text but controls, which the edge refuses, and the dots that the client refuses.
SEGMENTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/"), min_size=1).filter(
    lambda text: text not in {".", ".."}
)
# In a variable of several segments `%2F` stays as it is, so that a client's own is not told from it.
PLAIN = SEGMENTS.filter(lambda text: "%2f" not in text.lower())
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VIEWS = st.sampled_from([0, 1, 2])


def name_of(*pattern: str) -> st.SearchStrategy[str]:
    """Resource names: each `*` any segment."""
    return st.tuples(*(PLAIN if part == "*" else st.just(part) for part in pattern)).map("/".join)


BOOK_NAMES = name_of("shelves", "*", "books", "*")
# What is captured never begins with a slash, and the client sends no empty value.
REST = st.lists(PLAIN, min_size=1, max_size=4).map("/".join).filter(lambda name: not name.endswith(":move"))


@st.composite
def filters(draw: Any, depth: int = 1) -> Any:
    """A filter whose fields are set or not."""
    made = message("Filter")()
    if draw(st.booleans()):
        made.after.FromNanoseconds(draw(st.integers(-(10**18), 4 * 10**18)))
    if draw(st.booleans()):
        made.within.FromNanoseconds(draw(st.integers(-(10**15), 10**15)))
    if draw(st.booleans()):
        made.lent.value = draw(st.booleans())
    if draw(st.booleans()):
        made.least.value = draw(st.integers(-(2**63), 2**63 - 1))
    made.most = draw(st.integers(-(2**63), 2**63 - 1))
    made.copies = draw(st.integers(0, 2**64 - 1))
    made.edition = draw(st.integers(0, 2**32 - 1))
    made.price = draw(st.floats(allow_nan=False))
    made.weight = draw(st.floats(width=32, allow_nan=False))
    made.signed = draw(st.booleans())
    made.digest = draw(st.binary(max_size=9))
    made.view = draw(VIEWS)
    if depth and draw(st.booleans()):
        made.also.CopyFrom(draw(filters(depth - 1)))
    return made


@st.composite
def full_filters(draw: Any) -> Any:
    """A filter with its maps too, which only a body can hold."""
    made = draw(filters())
    made.shelves.update(draw(st.dictionaries(TEXTS, st.integers(-(2**31), 2**31 - 1), max_size=3)))
    for key in draw(st.lists(TEXTS, max_size=2)):
        made.books[key].title = draw(TEXTS)
    return made


@st.composite
def books(draw: Any, names: st.SearchStrategy[str] = TEXTS) -> Any:
    """A book."""
    made = message("Book")(name=draw(names), title=draw(TEXTS), authors=draw(st.lists(TEXTS, max_size=3)))
    if draw(st.booleans()):
        made.pages = draw(st.integers(-(2**31), 2**31 - 1))
    if draw(st.booleans()):
        made.extra.update({"a": draw(TEXTS), "n": 1.5, "l": [None, True, {"x": {}}]})
    made.filters.extend(draw(st.lists(full_filters(), max_size=2)))
    return made


@st.composite
def lists(draw: Any) -> Any:
    """A request whose fields go to the path and the query."""
    made = message("ListBooksRequest")(shelf=draw(SEGMENTS), page_size=draw(st.integers(-(2**31), 2**31 - 1)))
    made.authors.extend(draw(st.lists(TEXTS, max_size=3)))
    made.views.extend(draw(st.lists(VIEWS, max_size=3)))
    made.mask.paths.extend(draw(st.lists(st.sampled_from(["title", "filters.most", "page_count"]), max_size=2)))
    if draw(st.booleans()):
        made.filter.CopyFrom(draw(filters()))
    return made


def creations(names: st.SearchStrategy[str], shelves: st.SearchStrategy[str]) -> st.SearchStrategy[Message]:
    """A request that carries a book."""
    made = message("CreateBookRequest")
    return st.builds(made, shelf=shelves, book=books(names), dry_run=st.booleans(), request_id=TEXTS)


def moves() -> st.SearchStrategy[Message]:
    """A request with one of two targets."""
    made = message("MoveBookRequest")
    return st.one_of(
        st.builds(made, name=BOOK_NAMES, shelf=TEXTS), st.builds(made, name=BOOK_NAMES, filter=full_filters())
    )


REQUESTS = {
    "GetBook": st.one_of(
        st.builds(message("GetBookRequest"), name=BOOK_NAMES, view=VIEWS),
        st.builds(message("GetBookRequest"), name=REST, view=VIEWS),
    ),
    "ListBooks": lists(),
    "CreateBook": creations(TEXTS, SEGMENTS),
    "UpdateBook": creations(BOOK_NAMES, TEXTS),
    "MoveBook": moves(),
}


def table() -> RouteTable[Route]:
    """The library's routes."""
    made: RouteTable[Route] = RouteTable()
    for binding in bindings_of(library()):
        made.add(binding.http_method, binding.template, Route(binding))
    return made


TABLE = table()


def http_options(rpc: str) -> list[dict[str, str]]:
    """An rpc's bindings as the client library wants them."""

    def option(binding: Binding) -> dict[str, str]:
        body = {"body": binding.body} if binding.body else {}
        return {"method": binding.http_method.lower(), "uri": binding.template.text, **body}

    return [option(binding) for binding in bindings_of(library()) if binding.method.name == rpc]


def query_of(parameters: Message) -> str:
    """A query as a client writes it: nested fields by their dotted path, lists by repetition."""
    pairs: list[tuple[str, str]] = []

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list):
            for inner in value:
                flatten(prefix, inner)
        else:
            pairs.append((prefix, str(value).lower() if isinstance(value, bool) else str(value)))

    flatten("", json_format.MessageToDict(parameters))
    return urlencode(pairs)


def normalized(request: Message) -> Message:
    """Without what no query and no JSON can say: a message that is there and holds nothing."""
    copy = type(request)()
    copy.CopyFrom(request)
    for field, value in copy.ListFields():
        if field.message_type is not None and not field.is_repeated and not value.ByteSize():
            copy.ClearField(field.name)
        elif field.message_type is not None and not field.is_repeated and field.message_type.name == "Filter":
            getattr(copy, field.name).CopyFrom(normalized(value))
    return copy


@pytest.mark.parametrize("rpc", REQUESTS)
@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_what_a_client_sends_is_what_we_read(rpc: str, data: st.DataObject) -> None:
    """Every request that the client library transcodes comes out of our transcoder as it went in."""
    request = data.draw(REQUESTS[rpc])
    transcode: Any = path_template.transcode
    sent = transcode(http_options(rpc), message=request)
    body = json_format.MessageToJson(sent["body"]).encode() if sent.get("body") is not None else b""
    query = query_of(sent["query_params"]) if sent.get("query_params") else ""
    _, _, path = split_target("GET", sent["uri"].encode("ascii"))
    match = TABLE.find(sent["method"].upper(), path)
    assert match is not None
    assert match.entry.binding.method.name == rpc
    assert normalized(match.entry.read(match.captured, query, body)) == normalized(request)


@given(shelf=st.text(st.characters(codec="utf-8"), min_size=1))
@settings(max_examples=100, deadline=None)
def test_a_single_segment_may_hold_anything(shelf: str) -> None:
    """Slashes and dots too, once they are escaped: what a careful client escapes, we read back."""
    path = f"/v1/shelves/{quote(shelf, safe='')}/books"
    match = TABLE.find("GET", path)
    assert match is not None
    request: Any = match.entry.read(match.captured, "", b"")
    assert request.shelf == shelf
