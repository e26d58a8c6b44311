"""Sources by rpc: who may ask, and what a request may say."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from clew.admin.v1 import source_pb2 as nouns
from clew.admin.v1 import source_service_pb2 as messages
from tests.gateway.admin.api import OUTSIDER, Api, Metadata, bearer

READS: dict[str, dict[str, Any]] = {
    "GetSource": {"workspace": "shop", "source": "filed"},
    "ListSources": {},
    "ListWorkspaces": {},
    "ListSourceChanges": {"workspace": "shop", "source": "filed"},
}
WRITES: dict[str, dict[str, Any]] = {
    "CreateSource": {"source": nouns.Source(workspace="shop", name="filed")},
    "UpdateSource": {
        "source": nouns.Source(workspace="shop", name="filed"),
        "update_mask": FieldMask(paths=["disabled"]),
    },
    "DeleteSource": {"workspace": "shop", "source": "filed"},
    "CreateWriteKey": {"workspace": "shop", "source": "filed"},
    "RotateWriteKey": {"workspace": "shop", "source": "filed", "write_key_id": "k"},
    "RevokeWriteKey": {"workspace": "shop", "source": "filed", "write_key_id": "k"},
}


def test_every_rpc_is_covered_here() -> None:
    """An rpc that is added has to say below who may call it."""
    service = messages.DESCRIPTOR.services_by_name["SourceService"]
    assert {method.name for method in service.methods} == {*READS, *WRITES}


@pytest.mark.parametrize("rpc", [*READS, *WRITES])
@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), ("UNAUTHENTICATED", "MISSING_CREDENTIALS")),
        ((("x-write-key", "filed"),), ("UNAUTHENTICATED", "MISSING_CREDENTIALS")),
        ((("authorization", "Basic ZmlsZWQ6"),), ("UNAUTHENTICATED", "MISSING_CREDENTIALS")),
        ((("authorization", "Bearer filed"),), ("UNAUTHENTICATED", "INVALID_TOKEN")),
        (bearer("clew.debug.read", "clew.impersonate"), ("PERMISSION_DENIED", "INSUFFICIENT_SCOPE")),
        (bearer("clew.admin", signer=OUTSIDER), ("PERMISSION_DENIED", "INSUFFICIENT_SCOPE")),
    ],
    ids=["nobody", "write key", "write key as Basic", "write key as token", "other scopes", "outside issuer"],
)
def test_nobody_administers_without_a_token_for_it(api: Api, rpc: str, metadata: Metadata, expected: object) -> None:
    """A write key opens nothing, and an outside issuer that proves user ids names no administrators."""
    assert api.refusal(rpc, metadata, **(READS | WRITES)[rpc]) == expected


@pytest.mark.parametrize("rpc", READS)
@pytest.mark.parametrize("scope", ["clew.sources.read", "clew.sources.write", "clew.admin"])
def test_reading_takes_any_of_three_scopes(api: Api, rpc: str, scope: str) -> None:
    """Who may change may read."""
    api(rpc, bearer(scope), **READS[rpc])


@pytest.mark.parametrize("rpc", WRITES)
def test_changing_takes_a_scope_for_it(api: Api, rpc: str) -> None:
    """Reading's is not enough; with one, the file's source is what refuses."""
    assert api.refusal(rpc, bearer("clew.sources.read"), **WRITES[rpc]) == ("PERMISSION_DENIED", "INSUFFICIENT_SCOPE")
    for scope in ("clew.sources.write", "clew.admin"):
        status, _ = api.refusal(rpc, bearer(scope), **WRITES[rpc])
        assert status in {"FAILED_PRECONDITION", "ALREADY_EXISTS"}


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "", "x" * 65])
def test_names_that_no_store_could_keep_are_refused(api: Api, text: str) -> None:
    """As a broken contract, and never as a fault of ours."""
    assert api.refusal("GetSource", workspace="shop", source=text) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert api.refusal("ListSourceChanges", workspace=text, source="web")[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(("workspace", "source"), [("a b", "web"), ("shop", "a/b"), ("shop", ".."), ("shop", "ä")])
def test_new_names_fit_into_a_path(api: Api, workspace: str, source: str) -> None:
    """Letters, digits, dot, underscore and hyphen, and no dot at the beginning."""
    asked = nouns.Source(workspace=workspace, name=source)
    assert api.refusal("CreateSource", source=asked) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://*", "HTTPS://SHOP.EXAMPLE", ""])
def test_origins_are_as_browsers_write_them(api: Api, name: str, origin: str) -> None:
    """Anything else would never match, and is refused when it is set."""
    asked = nouns.Source(workspace="shop", name=name, allowed_origins=nouns.AllowedOrigins(origins=[origin]))
    assert api.refusal("CreateSource", source=asked) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


def test_requests_are_kept_small(api: Api, name: str) -> None:
    """A list of origins has an end."""
    origins = nouns.AllowedOrigins(origins=[f"https://s{number}.example" for number in range(101)])
    asked = nouns.Source(workspace="shop", name=name, allowed_origins=origins)
    assert api.refusal("CreateSource", source=asked) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
