"""Every rpc says how it is called over HTTP and by whom, and nothing that names a person stands in a URL."""

import re

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor

from clew.options.v1 import access_pb2, privacy_pb2
from clew.options.v1.access_pb2 import AccessKind
from clew.options.v1.privacy_pb2 import DataCategory
from gateway.transcode.binding import Binding, bindings_of
from gateway.transcode.query import query_fields

# Rpcs that are for services inside the mesh only, each with the reason why.
_STREAM_OF_CALLS = (
    "a stream of calls in both directions, for gateways: HTTP/1.1 has no such thing, and the unary rpc does the same"
)
INTERNAL: dict[str, str] = {
    "clew.identity.v1.IdentityService.StreamResolveIdentities": _STREAM_OF_CALLS,
    "clew.consent.v1.ConsentService.StreamCheckConsents": _STREAM_OF_CALLS,
    "clew.enrich.v1.EnrichService.StreamEnrichEvents": _STREAM_OF_CALLS,
}

SCOPE = re.compile(r"clew\.(admin|[a-z]+\.(read|write))")
# URLs end in the logs of proxies and in the histories of browsers.
IN_URLS = {DataCategory.DATA_CATEGORY_OPERATIONAL, DataCategory.DATA_CATEGORY_PSEUDONYMOUS_ID}


@pytest.fixture(scope="module")
def rpcs(contract_files: list[FileDescriptor]) -> list[MethodDescriptor]:
    """Every rpc of every service."""
    return [
        method for file in contract_files for service in file.services_by_name.values() for method in service.methods
    ]


@pytest.fixture(scope="module")
def bindings(contract_files: list[FileDescriptor]) -> list[Binding]:
    """Every binding; one that breaks the rules fails here."""
    services = [service for file in contract_files for service in file.services_by_name.values()]
    return [binding for service in services for binding in bindings_of(service)]


def test_every_rpc_is_bound_or_internal(rpcs: list[MethodDescriptor]) -> None:
    """An rpc without `google.api.http` is one that somebody decided to keep inside, and said why."""
    unbound = {rpc.full_name for rpc in rpcs if not rpc.GetOptions().HasExtension(annotations_pb2.http)}
    assert unbound == set(INTERNAL)


def test_every_rpc_declares_who_may_call_it(rpcs: list[MethodDescriptor]) -> None:
    """Access is declared even before an rpc is bound: what is not declared is not served."""
    undeclared = [
        rpc.full_name
        for rpc in rpcs
        if rpc.full_name not in INTERNAL
        and rpc.GetOptions().Extensions[access_pb2.access].kind == AccessKind.ACCESS_KIND_UNSPECIFIED
    ]
    assert undeclared == []


def test_scopes_are_well_named(bindings: list[Binding]) -> None:
    """`clew.<what>.read`, `clew.<what>.write`, or `clew.admin`."""
    odd = [
        binding.access.scope
        for binding in bindings
        if binding.access.scope and not SCOPE.fullmatch(binding.access.scope)
    ]
    assert odd == []


def test_what_is_public_is_known(bindings: list[Binding]) -> None:
    """An rpc that everybody may call is listed here, so that none becomes so unnoticed."""
    public = {binding.method.name for binding in bindings if binding.access.kind == AccessKind.ACCESS_KIND_PUBLIC}
    assert public == {"IssueToken", "GetJwks"}


def test_urls_name_no_person(bindings: list[Binding]) -> None:
    """Neither a path nor a query carries a direct identifier, a secret, or what somebody did."""

    def category(field: FieldDescriptor) -> DataCategory.ValueType:
        return field.GetOptions().Extensions[privacy_pb2.privacy].category

    found = [
        f"{binding.http_method} {binding.template.text}: {path[-1].full_name}"
        for binding in bindings
        for path in (
            *binding.path_fields.values(),
            *query_fields(binding.method.input_type, frozenset(binding.path_fields), binding.body),
        )
        if category(path[-1]) not in IN_URLS
    ]
    assert found == []


def test_reading_is_get_and_writing_is_not(bindings: list[Binding]) -> None:
    """A GET changes nothing, so that whoever repeats or fetches it ahead does no harm."""
    gets = {binding.method.name for binding in bindings if binding.http_method == "GET"}
    assert all(name.startswith(("Get", "List", "Watch")) for name in gets)
