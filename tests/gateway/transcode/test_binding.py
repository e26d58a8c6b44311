"""Bindings of a contract: what breaks the rules of google/api/http.proto, or says nothing of access, does not start."""

from itertools import count
from pathlib import Path

import pytest

from gateway.transcode.binding import BindingError, bindings_of
from gateway.transcode.template import TemplateError
from tests.gateway.transcode.library import compile_text, library

FILE = """
syntax = "proto3";
package {package};
import "clew/options/v1/access.proto";
import "google/api/annotations.proto";
service Service {{
  rpc Call({stream}Request) returns (Response) {{
    option (google.api.http) = {{{rule}}};
    {access}
  }}
}}
message Request {{
  string id = 1;
  repeated string ids = 2;
  Response inner = 3;
  map<string, string> pairs = 4;
}}
message Response {{ string id = 1; }}
"""
PUBLIC = "option (clew.options.v1.access) = {kind: ACCESS_KIND_PUBLIC};"
_numbers = count()


def bind(folder: Path, rule: str, access: str = PUBLIC, stream: str = "") -> list[str]:
    """The bindings of a contract with one rule, in words."""
    package = f"binding{next(_numbers)}"
    file = compile_text(
        f"{package}.proto", FILE.format(package=package, rule=rule, access=access, stream=stream), folder
    )
    service = file.services_by_name["Service"]
    return [f"{binding.http_method} {binding.template.text}" for binding in bindings_of(service)]


def test_an_rpc_has_all_its_bindings() -> None:
    """The first one and the additional ones, in order; an rpc without a binding is not for HTTP."""
    found = [(binding.method.name, binding.template.text) for binding in bindings_of(library())]
    assert found[:2] == [("GetBook", "/v1/{name=shelves/*/books/*}"), ("GetBook", "/v1/files/{name=**}")]
    assert "Burn" not in {name for name, _ in found}


def test_a_method_of_its_own(tmp_path: Path) -> None:
    """A custom pattern names any method, in whatever case."""
    assert bind(tmp_path, 'custom: {kind: "purge", path: "/x/{id}"}') == ["PURGE /x/{id}"]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ('get: "/x/{nope}"', "nope is no field"),
        ('get: "/x/{inner.nope}"', "inner.nope is no field"),
        ('get: "/x/{ids}"', "must be one plain value"),
        ('get: "/x/{inner}"', "must be one plain value"),
        ('get: "/x/{pairs}"', "must be one plain value"),
        ('get: "/x" body: "*"', "GET has no body"),
        ('delete: "/x" body: "inner"', "DELETE has no body"),
        ('post: "/x" body: "nope"', "nope is no field"),
        ('post: "/x" body: "inner.id"', "inner.id is no field"),
        ('get: "/x" response_body: "nope"', "nope is no field"),
        ('body: "*"', "no pattern"),
        ('get: "/x" additional_bindings: {get: "/y" additional_bindings: {get: "/z"}}', "nested deeper"),
    ],
)
def test_a_binding_that_breaks_the_rules(tmp_path: Path, rule: str, problem: str) -> None:
    """It is named, with what is wrong."""
    with pytest.raises(BindingError, match=problem):
        bind(tmp_path, rule)


def test_a_malformed_path(tmp_path: Path) -> None:
    """The template's own error says what is wrong."""
    with pytest.raises(TemplateError):
        bind(tmp_path, 'get: "x"')


def test_a_stream_of_requests_cannot_be_bound(tmp_path: Path) -> None:
    """HTTP/1.1 has one body."""
    with pytest.raises(BindingError, match="stream of requests"):
        bind(tmp_path, 'post: "/x" body: "*"', stream="stream ")


@pytest.mark.parametrize(
    ("access", "problem"),
    [
        ("", "say who may call it"),
        ('option (clew.options.v1.access) = {scope: "x"};', "say who may call it"),
        ("option (clew.options.v1.access) = {kind: ACCESS_KIND_SCOPE};", "a scope goes with"),
        ('option (clew.options.v1.access) = {kind: ACCESS_KIND_PUBLIC scope: "x"};', "a scope goes with"),
        ('option (clew.options.v1.access) = {kind: ACCESS_KIND_PUBLIC other_scopes: "x"};', "beside a scope"),
    ],
)
def test_access_fails_closed(tmp_path: Path, access: str, problem: str) -> None:
    """A binding without a declaration, or with half of one, is served to nobody."""
    with pytest.raises(BindingError, match=problem):
        bind(tmp_path, 'get: "/x"', access)
