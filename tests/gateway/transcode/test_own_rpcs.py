"""The gateway's own rpcs between their contract, their servicers and HTTP."""

import pytest

from clew.options.v1 import access_pb2
from gateway.admin import access
from gateway.caller import HttpCaller
from gateway.http.message import Headers
from gateway.routes.rpcs import OWN_SERVICES
from gateway.transcode.binding import bindings_of
from gateway.transcode.calls import in_process

ADMIN = "clew.admin"


def test_the_contract_and_the_servicers_ask_for_the_same() -> None:
    """Whoever may call by gRPC may call over HTTP, and nobody else."""
    options = {
        method.name: method.GetOptions().Extensions[access_pb2.access]
        for service in OWN_SERVICES
        for method in service.methods
    }
    opened = {name: {one.scope, *one.other_scopes, ADMIN} for name, one in options.items() if one.scope}
    writes = ("Create", "Update", "Delete", "Rotate", "Revoke")
    for name, scopes in opened.items():
        expected: tuple[str, ...] = access.WRITERS if name.startswith(writes) else access.READERS
        match name:
            case "TailEvents":
                expected = access.WATCHERS
            case "RedriveEvents":
                expected = access.REDRIVERS
            case "GetLedger":
                expected = (ADMIN,)
            case _:
                pass
        assert scopes == set(expected), name


def test_an_rpc_that_nothing_serves_is_found_at_start() -> None:
    """A method that is added to the contract and not to the table stops the start, not a request."""
    calls = in_process({})
    methods = [binding.method for service in OWN_SERVICES for binding in bindings_of(service)]
    for method in methods:
        with pytest.raises(LookupError, match=method.full_name):
            (calls.stream if method.server_streaming else calls.unary)(method)


def test_only_the_credential_of_a_request_reaches_a_servicer() -> None:
    """Whatever else a client sends is no metadata of a call."""
    hostile = Headers.of([("x-user", "root"), ("authorization", "Bearer x"), ("authorization", "Bearer y")])
    assert list(HttpCaller(hostile).invocation_metadata()) == [("authorization", "Bearer x")]
    assert list(HttpCaller(Headers.of([("cookie", "a=b")])).invocation_metadata()) == []
