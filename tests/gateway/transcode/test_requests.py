"""A request's path, query and body to a message: what is taken, and by which name the rest is refused."""

from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from gateway.http.errors import UnreadableBody
from gateway.transcode.binding import bindings_of
from gateway.transcode.route import Route
from gateway.transcode.table import RouteTable
from mesh.errors import InvalidArgument
from tests.gateway.transcode.library import library, message

TABLE: RouteTable[Route] = RouteTable()
for _binding in bindings_of(library()):
    TABLE.add(_binding.http_method, _binding.template, Route(_binding))

LIST = "GET /v1/shelves/s/books"
CREATE = "POST /v1/shelves/s/books"
UPDATE = "PATCH /v1/shelves/s/books/b"
MOVE = "POST /v1/shelves/s/books/b:move"


def read(request_line: str, body: bytes = b"") -> Message:
    """The message of a request."""
    method, _, target = request_line.partition(" ")
    path, _, query = target.partition("?")
    match = TABLE.find(method, path)
    assert match is not None
    return match.entry.read(match.captured, query, body)


def tree(request: Message) -> dict[str, Any]:
    """The fields that are set, as JSON, by their proto names."""
    return json_format.MessageToDict(request, preserving_proto_field_name=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("page_size=7", {"page_size": 7}),
        ("pageSize=7", {"page_size": 7}),
        ("pageSize=-7", {"page_size": -7}),
        ("authors=a&authors=b+c&authors=%C3%BC", {"authors": ["a", "b c", "ü"]}),
        ("authors=", {"authors": [""]}),
        ("filter.view=VIEW_FULL", {"filter": {"view": "VIEW_FULL"}}),
        ("filter.view=2", {"filter": {"view": "VIEW_FULL"}}),
        ("filter.view=77", {"filter": {"view": 77}}),
        ("views=VIEW_BASIC&views=2", {"views": ["VIEW_BASIC", "VIEW_FULL"]}),
        ("filter.also.also.signed=true", {"filter": {"also": {"also": {"signed": True}}}}),
        ("filter.signed=false&filter.price=1.5", {"filter": {"price": 1.5}}),
        ("filter.price=-1e-3", {"filter": {"price": -0.001}}),
        ("filter.price=NaN", {"filter": {"price": "NaN"}}),
        ("filter.price=-Infinity", {"filter": {"price": "-Infinity"}}),
        ("filter.after=2026-11-25T10:00:00Z", {"filter": {"after": "2026-11-25T10:00:00Z"}}),
        ("filter.after=2026-11-25T10:00:00.5%2B01:00", {"filter": {"after": "2026-11-25T09:00:00.500Z"}}),
        ("filter.within=1.5s", {"filter": {"within": "1.500s"}}),
        ("filter.lent=false", {"filter": {"lent": False}}),
        ("filter.least=-9223372036854775808", {"filter": {"least": "-9223372036854775808"}}),
        ("filter.copies=18446744073709551615", {"filter": {"copies": "18446744073709551615"}}),
        ("filter.digest=-_8", {"filter": {"digest": "+/8="}}),
        ("mask=title,filters.mostCopies", {"mask": "title,filters.mostCopies"}),
        ("mask=page_count,filters.most_copies", {"mask": "pageCount,filters.mostCopies"}),
        ("mask=", {"mask": ""}),
        ("&", {}),
    ],
)
def test_a_query_sets_fields(query: str, expected: dict[str, Any]) -> None:
    """Dotted paths reach nested fields, in proto or JSON names; text forms are those of ProtoJSON."""
    assert tree(read(f"{LIST}?{query}")) == {"shelf": "s", **expected}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("x=1", "x"),
        ("filter.x=1", "filter.x"),
        ("filter=1", "filter"),
        ("filter.signed.x=1", "filter.signed.x"),
        ("authors.x=1", "authors.x"),
        ("filter.shelves=1", "filter.shelves"),
        ("filter.after.seconds=1", "filter.after.seconds"),
        ("filter" + ".also" * 15 + ".signed=true", ("filter" + ".also" * 30)[:81] + ".signed"),
        ("filter" + ".also" * 3_000 + ".signed=true", ("filter" + ".also" * 30)[:128]),
        ("=1", ""),
        ("page_size=", "page_size"),
        ("page_size=x", "page_size"),
        ("page_size=1_0", "page_size"),
        ("page_size=%D9%A1", "page_size"),
        ("page_size=007", "page_size"),
        ("page_size=1.5", "page_size"),
        ("page_size=2147483648", "page_size"),
        ("page_size=1&page_size=1", "page_size"),
        ("page_size=1&pageSize=2", "page_size"),
        ("filter.copies=-1", "filter.copies"),
        ("filter.copies=18446744073709551616", "filter.copies"),
        ("filter.signed=True", "filter.signed"),
        ("filter.signed=1", "filter.signed"),
        ("filter.view=NOPE", "filter.view"),
        ("filter.view=", "filter.view"),
        ("filter.price=nan", "filter.price"),
        ("filter.price=0x10", "filter.price"),
        ("filter.price=1e999", "filter.price"),
        ("filter.weight=1e39", "filter.weight"),
        ("filter.after=2026-1-1T0:0:0Z", "filter.after"),
        ("filter.after=2026-02-30T00:00:00Z", "filter.after"),
        ("filter.after=0000-01-01T00:00:00Z", "filter.after"),
        ("filter.after=2026-01-01T00:00:00-24:00", "filter.after"),
        ("filter.after=2026-01-01T00:00:00-01:60", "filter.after"),
        ("filter.within=5", "filter.within"),
        ("filter.within=%2B5s", "filter.within"),
        ("filter.within=999999999999s", "filter.within"),
        ("filter.lent=2", "filter.lent"),
        ("filter.digest=a", "filter.digest"),
        ("mask=snake__case", "mask"),
        ("shelf=s", "shelf"),
        ("shelf=other", "shelf"),
        ("authors=%ff", "query"),
        ("authors=%zz", "query"),
        ("authors=%", "query"),
        ("&".join(["authors=a"] * 1_001), "query"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_by_name(query: str, field: str) -> None:
    """Unknown, bound by the path, given twice, of another type, out of range, or badly escaped."""
    with pytest.raises(InvalidArgument) as refused:
        read(f"{LIST}?{query}")
    assert refused.value.metadata["field"] == field
    assert refused.value.metadata["rule"] in {"unknown_field", "collision", "type", "encoding"}


@pytest.mark.parametrize(
    ("request_line", "body", "expected"),
    [
        (CREATE, b'{"title": "t", "pages": 1e2}', {"shelf": "s", "book": {"title": "t", "pages": 100}}),
        (CREATE + "?dryRun=true&request_id=r", b"{}", {"shelf": "s", "book": {}, "dry_run": True, "request_id": "r"}),
        (CREATE, b"", {"shelf": "s"}),
        (CREATE, b'{"pages": "12", "authors": null}', {"shelf": "s", "book": {"pages": 12}}),
        (CREATE, b'{"extra": {"a": [1, null, "x"]}}', {"shelf": "s", "book": {"extra": {"a": [1.0, None, "x"]}}}),
        (CREATE, b'{"anything": null}', {"shelf": "s", "book": {"anything": None}}),
        (
            CREATE,
            b'{"filters": [{"most": 9223372036854775807}, {"shelves": {"a": 1}, "books": {"k": {"title": "t"}}}]}',
            {
                "shelf": "s",
                "book": {
                    "filters": [
                        {"most": "9223372036854775807"},
                        {"shelves": {"a": 1}, "books": {"k": {"title": "t"}}},
                    ]
                },
            },
        ),
        (UPDATE, b'{"book": {"title": "t"}}', {"book": {"name": "shelves/s/books/b", "title": "t"}}),
        (UPDATE, b'{"shelf": "s"}', {"shelf": "s", "book": {"name": "shelves/s/books/b"}}),
        (MOVE, b'{"shelf": "x"}', {"name": "shelves/s/books/b", "shelf": "x"}),
        (MOVE, b'{"filter": {}}', {"name": "shelves/s/books/b", "filter": {}}),
        (MOVE, b'{"shelf": null, "filter": {}}', {"name": "shelves/s/books/b", "filter": {}}),
        (MOVE, b"", {"name": "shelves/s/books/b"}),
    ],
)
def test_a_body_sets_fields(request_line: str, body: bytes, expected: dict[str, Any]) -> None:
    """`*` is every field that the path does not bind; a field by name is that field, and the rest goes to the query."""
    assert tree(read(request_line, body)) == expected


@pytest.mark.parametrize(
    ("request_line", "body", "field"),
    [
        (CREATE, b'{"x": 1}', "book.x"),
        (CREATE, b'{"filters": [{}, {"also": {"x": 1}}]}', "book.filters[1].also.x"),
        (CREATE, b'{"title": 1}', "book.title"),
        (CREATE, b'{"title": "a", "authors": "b"}', "book.authors"),
        (CREATE, b'{"authors": ["a", 1]}', "book.authors[1]"),
        (CREATE, b'{"authors": [null]}', "book.authors[0]"),
        (CREATE, b'{"filters": [null]}', "book.filters[0]"),
        (CREATE, b'{"filters": {}}', "book.filters"),
        (CREATE, b'{"filters": [{"also": []}]}', "book.filters[0].also"),
        (CREATE, b'{"filters": [{"shelves": {"secret key": "x"}}]}', "book.filters[0].shelves[*]"),
        (CREATE, b'{"filters": [{"books": {"k": {"x": 1}}}]}', "book.filters[0].books[*].x"),
        (CREATE, b'{"filters": [{"signed": "true"}]}', "book.filters[0].signed"),
        (CREATE, b'{"filters": [{"view": "2"}]}', "book.filters[0].view"),
        (CREATE, b'{"filters": [{"view": true}]}', "book.filters[0].view"),
        (CREATE, b'{"filters": [{"price": true}]}', "book.filters[0].price"),
        (CREATE, b'{"filters": [{"after": 5}]}', "book.filters[0].after"),
        (CREATE, b'{"filters": [{"price": ' + b"9" * 400 + b"}]}", "book.filters[0].price"),
        (CREATE, b'{"pages": 1.5}', "book.pages"),
        (CREATE, b'{"pages": 1e300}', "book.pages"),
        (CREATE, b'{"pages": true}', "book.pages"),
        (CREATE, b'{"extra": []}', "book.extra"),
        (CREATE, b"[]", "book"),
        (CREATE, b"null", "book"),
        (CREATE + "?book.title=t", b"{}", "book.title"),
        (UPDATE, b'{"book": {"name": "shelves/s/books/b"}}', "book.name"),
        (UPDATE, b'{"requestId": "a", "request_id": "a"}', "request_id"),
        (UPDATE + "?shelf=s", b"{}", "shelf"),
        (UPDATE + "?book.name=x", b"{}", "book.name"),
        (MOVE, b'{"shelf": "a", "filter": {}}', "filter"),
        (MOVE, b'"x"', ""),
        (LIST, b"{}", ""),
    ],
)
def test_a_body_that_does_not_fit_is_refused_by_name(request_line: str, body: bytes, field: str) -> None:
    """The path of the field, with the index of a list's item; a map's key is the client's data and is not shown."""
    with pytest.raises(InvalidArgument) as refused:
        read(request_line, body)
    assert refused.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "malformed"),
        (b'{"title": "t"} x', "malformed"),
        (b'{"title": "t", "title": "u"}', "twice"),
        (b'{"title": "\\ud800"}', "surrogate"),
        (b'{"title": "\xff"}', "UTF-8"),
        (b'{"extra": {"a": NaN}}', "NaN"),
        (b'{"extra": ' + b'{"a":' * 20 + b"1" + b"}" * 21, "deeper"),
        (b"[" * 100_000, "deeper"),
    ],
)
def test_a_body_that_two_readers_read_differently_is_refused(body: bytes, detail: str) -> None:
    """Malformed, a key twice, half a surrogate pair, no UTF-8, no JSON number, too deep."""
    with pytest.raises(UnreadableBody, match=detail):
        read(CREATE, body)


@pytest.mark.parametrize("name", ["authors", "filters"])
def test_a_list_without_end_is_refused_before_it_is_built(name: str) -> None:
    """A body of empty items would cost a hundred times its own size."""
    item = b'""' if name == "authors" else b"{}"
    with pytest.raises(InvalidArgument) as refused:
        read(CREATE, b'{"%b": [%b]}' % (name.encode(), b",".join([item] * 10_001)))
    assert refused.value.metadata == {"field": f"book.{name}", "rule": "repeated.max_items"}
    pairs = b",".join(b'"%d":1' % number for number in range(10_001))
    with pytest.raises(InvalidArgument) as refused:
        read(CREATE, b'{"filters": [{"shelves": {%b}}]}' % pairs)
    assert refused.value.metadata["rule"] == "map.max_pairs"


def test_what_is_refused_is_shown_in_part_only() -> None:
    """A name without end does not come back whole."""
    with pytest.raises(InvalidArgument) as refused:
        read(f"{LIST}?{'x' * 10_000}=1")
    assert len(refused.value.metadata["field"]) == 128
    assert len(refused.value.detail) < 200


def test_a_segment_that_holds_a_slash_stays_one_segment() -> None:
    """Decoding comes after matching."""
    assert tree(read(f"GET /v1/shelves/{quote('a/b', safe='')}/books")) == {"shelf": "a/b"}


@pytest.mark.parametrize(
    ("rpc", "response", "expected"),
    [
        ("GetBook", {"title": "t"}, b'{"title":"t","name":"","authors":[],"filters":[]}'),
        ("ListBooks", {"books": []}, b"[]"),
        ("ListBooks", {"books": [{"name": "n"}]}, b'[{"name":"n","title":"","authors":[],"filters":[]}]'),
    ],
)
def test_an_answer_shows_every_field(rpc: str, response: dict[str, Any], expected: bytes) -> None:
    """Fields that cannot be absent are there with their zero; `response_body` is one field of the response."""
    binding = next(each for each in bindings_of(library()) if each.method.name == rpc)
    made = message(binding.method.output_type.name)(**response)
    assert Route(binding).write(made) == expected
