"""Path templates: what they are made of, what they capture, and how percent-encoding is undone."""

import pytest

from gateway.transcode.table import RouteTable
from gateway.transcode.template import Template, TemplateError, parse_template


def captured(text: str, path: str) -> dict[str, str] | None:
    """What a template captures of a path; None when it does not match."""
    table: RouteTable[str] = RouteTable()
    table.add("GET", parse_template(text), text)
    match = table.find("GET", path)
    return None if match is None else match.captured


def shape(template: Template) -> tuple[tuple[str, ...], str]:
    """Segments and verb."""
    return template.segments, template.verb


@pytest.mark.parametrize(
    ("text", "segments", "verb"),
    [
        ("/v1/books", ("v1", "books"), ""),
        ("/v1/{name}", ("v1", "*"), ""),
        ("/v1/{name=*}:move", ("v1", "*"), "move"),
        ("/v1/{name=shelves/*/books/*}", ("v1", "shelves", "*", "books", "*"), ""),
        ("/v1/{a.b}/{c=**}", ("v1", "*", "**"), ""),
        ("/v1/*/x/**:verb", ("v1", "*", "x", "**"), "verb"),
        ("/v1/a%20b", ("v1", "a b"), ""),
    ],
)
def test_a_template_is_segments_and_a_verb(text: str, segments: tuple[str, ...], verb: str) -> None:
    """Variables are laid out into the segments that they cover; literals are decoded."""
    assert shape(parse_template(text)) == (segments, verb)


@pytest.mark.parametrize(
    "text",
    [
        "", "v1/books", "/", "/v1//books", "/v1/", "/v1/{", "/v1/}", "/v1/{name", "/v1/{}", "/v1/{na-me}", "/v1/{=*}",
        "/v1/{name=}", "/v1/{a={b}}", "/v1/{name=**}/x", "/v1/**/x", "/v1/x{name}", "/v1/{name}x", "/v1/***", "/v1/a*",
        "/v1/{a}/{a}", "/v1/{name}:", "/v1/x:a:b", "/v1/a b", "/v1/%zz", "/v1/{a.}", "/v1/{a..b}", "/v1/ä", "/v1/a:b/c",
    ],
)  # fmt: skip
def test_what_breaks_the_syntax_is_refused(text: str) -> None:
    """A contract with such a template does not start."""
    with pytest.raises(TemplateError):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        # One segment
        ("/v1/{name}", "/v1/a", {"name": "a"}),
        ("/v1/{name}", "/v1/", None),
        ("/v1/{name}", "/v1", None),
        ("/v1/{name}", "/v1/a/", None),
        ("/v1/{name}", "/v1/a/b", None),
        ("/v1/{name}", "/V1/a", None),
        ("/v1/*/x", "/v1/anything/x", {}),
        # Several segments
        ("/v1/{name=shelves/*/books/*}", "/v1/shelves/s/books/b", {"name": "shelves/s/books/b"}),
        ("/v1/{name=shelves/*/books/*}", "/v1/shelves//books/b", None),
        ("/v1/{name=shelves/*}/x", "/v1/shelves/s/x", {"name": "shelves/s"}),
        ("/v1/{a=x/*}/{b.c}/{d=y/*}", "/v1/x/1/2/y/3", {"a": "x/1", "b.c": "2", "d": "y/3"}),
        # The rest
        ("/v1/{name=**}", "/v1/a/b/c", {"name": "a/b/c"}),
        ("/v1/{name=**}", "/v1/a", {"name": "a"}),
        ("/v1/{name=**}", "/v1", {"name": ""}),
        ("/v1/{name=**}", "/v1/", {"name": ""}),
        ("/v1/{name=**}", "/v1//a", None),
        ("/v1/{name=**}", "/v1/a//b/", {"name": "a//b/"}),
        ("/v1/{name=files/**}", "/v1/files/a/b", {"name": "files/a/b"}),
        ("/v1/{name=files/**}", "/v1/files", {"name": "files"}),
        ("/v1/{a}/{b=**}", "/v1/1/2/3", {"a": "1", "b": "2/3"}),
        ("/v1/**", "/v1/a/b", {}),
        # Verbs
        ("/v1/{name}:move", "/v1/a:move", {"name": "a"}),
        ("/v1/{name}:move", "/v1/a", None),
        ("/v1/{name}:move", "/v1/a:copy", None),
        ("/v1/{name}:move", "/v1/a:b:move", {"name": "a:b"}),
        ("/v1/{name}:move", "/v1/a%3Amove", None),
        ("/v1/{name}:move", "/v1/a:mo%76e", {"name": "a"}),
        ("/v1/{name=**}:move", "/v1/a/b:move", {"name": "a/b"}),
        ("/v1/{name}", "/v1/a:move", {"name": "a:move"}),
        ("/v1/{name}", "/v1/a:", {"name": "a:"}),
        ("/v1/{name}/x", "/v1/a:move/x", {"name": "a:move"}),
        ("/v1/books:batch", "/v1/books:batch", {}),
        ("/v1/books:batch", "/v1/books", None),
        # Percent-encoding: whole in one segment, all but the slash in several
        ("/v1/{name}", "/v1/a%2Fb%20c", {"name": "a/b c"}),
        ("/v1/{name}", "/v1/%C3%BC%2e", {"name": "ü."}),
        ("/v1/{name}", "/v1/a+b", {"name": "a+b"}),
        ("/v1/{name=*}", "/v1/a%2fb", {"name": "a/b"}),
        ("/v1/{name=x/*}", "/v1/x/a%2Fb%20c", {"name": "x/a%2Fb c"}),
        ("/v1/{name=**}", "/v1/a%2fb/c%25", {"name": "a%2fb/c%"}),
        ("/v1/{name=**}", "/v1/a%252Fb", {"name": "a%2Fb"}),
        ("/v1/{name=x}", "/v1/x", {"name": "x"}),
        # Literals are compared decoded
        ("/v1/a%20b", "/v1/a%20b", {}),
        ("/v1/books", "/v1/b%6Foks", {}),
        ("/v1/%2A", "/v1/*", {}),
        ("/v1/%2A", "/v1/a", None),
        ("/v1/a/b", "/v1/a%2Fb", None),
        # Dots are text like any other: nothing is normalized
        ("/v1/{name}", "/v1/..", {"name": ".."}),
        ("/v1/{name}/x", "/v1/%2e%2E/x", {"name": ".."}),
    ],
)
def test_what_a_template_captures(text: str, path: str, expected: dict[str, str] | None) -> None:
    """The rules of google/api/http.proto, case by case."""
    assert captured(text, path) == expected
