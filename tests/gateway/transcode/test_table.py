"""The route table: which of several templates a path means, and which methods it has."""

import pytest

from gateway.transcode.table import RouteTable
from gateway.transcode.template import TemplateError, parse_template

ROUTES = [
    "GET /v1/books/{name}",
    "GET /v1/books/new",
    "GET /v1/books/{name}/pages/{page}",
    "GET /v1/books/new/{rest=**}",
    "GET /v1/{rest=**}",
    "POST /v1/books/{name}",
    "POST /v1/books/{name}:lend",
    "POST /v1/books:lend",
    "DELETE /v1/books/{rest=**}",
    "* /v2/{name}",
]


@pytest.fixture
def table() -> RouteTable[str]:
    """All routes; each entry is its own text."""
    table: RouteTable[str] = RouteTable()
    for route in ROUTES:
        method, _, text = route.partition(" ")
        table.add(method, parse_template(text), route)
    return table


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET /v1/books/new", "GET /v1/books/new"),
        ("GET /v1/books/old", "GET /v1/books/{name}"),
        ("GET /v1/books/new/pages/1", "GET /v1/books/new/{rest=**}"),
        ("GET /v1/books/old/pages/1", "GET /v1/books/{name}/pages/{page}"),
        ("GET /v1/books/old/pages", "GET /v1/{rest=**}"),
        ("GET /v1/films", "GET /v1/{rest=**}"),
        ("HEAD /v1/books/old", "GET /v1/books/{name}"),
        ("POST /v1/books/old:lend", "POST /v1/books/{name}:lend"),
        ("POST /v1/books/old:sell", "POST /v1/books/{name}"),
        ("POST /v1/books:lend", "POST /v1/books:lend"),
        ("PURGE /v2/x", "* /v2/{name}"),
        ("HEAD /v2/x", "* /v2/{name}"),
        ("POST /v1/films", ""),
        ("GET /v3", ""),
        ("GET *", ""),
        ("GET /", ""),
    ],
)
def test_the_most_specific_template_wins(table: RouteTable[str], request_line: str, expected: str) -> None:
    """A literal goes before `*`, `*` before `**`, and a verb before a segment that holds a colon."""
    method, _, path = request_line.partition(" ")
    match = table.find(method, path)
    assert ("" if match is None else match.entry) == expected


def test_the_methods_of_a_path(table: RouteTable[str]) -> None:
    """All methods for which some template matches: that is what `Allow` says."""
    assert table.methods("/v1/books/old") == {"GET", "POST", "DELETE"}
    assert table.methods("/v1/films") == {"GET"}
    assert table.methods("/v3") == set()


@pytest.mark.parametrize("text", ["/v1/books/{other}", "/v1/books/*", "/v1/{all=books/*}", "/v1/books/{x=**}"])
def test_two_templates_for_the_same_paths_are_refused(table: RouteTable[str], text: str) -> None:
    """Which of the two is meant would depend on the order of the files."""
    method = "DELETE" if "**" in text else "GET"
    with pytest.raises(TemplateError, match="the same paths"):
        table.add(method, parse_template(text), "")


def test_a_path_without_end_costs_nothing_much(table: RouteTable[str]) -> None:
    """However many segments a path has, no more of the tree is walked than there is."""
    match = table.find("GET", "/v1" + "/x" * 16_000)
    assert match is not None
    assert match.captured["rest"].count("/") == 15_999
