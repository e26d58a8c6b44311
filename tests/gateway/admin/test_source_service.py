"""Sources by rpc: what an administrator's tools can do with them."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from clew.admin.v1 import source_pb2 as nouns
from clew.options.v1.privacy_pb2 import Purpose
from gateway.sources import Sources, hash_key
from mesh.ids import new_id
from tests.gateway.admin.api import Api
from tests.gateway.admin.stores import NOW


def test_a_source_is_made_and_read(api: Api, name: str) -> None:
    """As it was asked for; what the server sets comes back with it."""
    limits = nouns.SourceLimits(events_per_second=0.5, burst=3)
    origins = nouns.AllowedOrigins(origins=["https://shop.example"])
    made = api.create(name, purposes=[2, 1], limits=limits, allowed_origins=origins)
    assert list(made.purposes) == [Purpose.PURPOSE_ESSENTIAL, Purpose.PURPOSE_ANALYTICS]
    assert (made.limits, made.allowed_origins) == (limits, origins)
    assert made.origin == nouns.SOURCE_ORIGIN_STORE
    assert made.create_time.ToNanoseconds() == made.update_time.ToNanoseconds() == NOW
    assert api.get(name) == made


def test_a_source_that_says_nothing_has_the_defaults(api: Api, name: str) -> None:
    """All purposes, the server's limits, any page; and what only the server sets is not taken from a request."""
    made = api.create(name, origin=nouns.SOURCE_ORIGIN_FILE, write_keys=[nouns.WriteKey(id="mine")])
    assert len(made.purposes) == 5
    assert not made.HasField("limits")
    assert not made.HasField("allowed_origins")
    assert (made.origin, list(made.write_keys), made.disabled) == (nouns.SOURCE_ORIGIN_STORE, [], False)


def test_no_page_at_all_is_not_any_page(api: Api, name: str) -> None:
    """An empty list of origins stays one."""
    api.create(name, allowed_origins=nouns.AllowedOrigins())
    assert api.get(name).HasField("allowed_origins")


def test_a_name_is_taken_once(api: Api, name: str) -> None:
    """By the store or by the file."""
    api.create(name)
    for taken in (name, "filed"):
        source = nouns.Source(workspace="shop", name=taken)
        assert api.refusal("CreateSource", source=source) == ("ALREADY_EXISTS", "SOURCE_EXISTS")


def test_only_what_the_mask_names_is_changed(api: Api, name: str) -> None:
    """Also to absent; the rest of the request is not looked at."""
    api.create(name, limits=nouns.SourceLimits(events_per_second=1, burst=1), purposes=[1])
    asked = nouns.Source(workspace="shop", name=name, purposes=[Purpose.PURPOSE_PERSONALIZATION], disabled=True)
    changed = api("UpdateSource", source=asked, update_mask=FieldMask(paths=["limits", "disabled"])).source
    assert not changed.HasField("limits")
    assert changed.disabled
    assert list(changed.purposes) == [1]
    changed = api("UpdateSource", source=asked, update_mask=FieldMask(paths=["purposes"])).source
    assert list(changed.purposes) == [3]


@pytest.mark.parametrize("paths", [[], ["name"], ["limits", "write_keys"], ["limits.burst"]])
def test_a_mask_names_what_can_be_changed(api: Api, name: str, paths: list[str]) -> None:
    """Anything else breaks the contract."""
    asked: dict[str, Any] = {"source": nouns.Source(workspace="shop", name=name), "update_mask": FieldMask(paths=paths)}
    assert api.refusal("UpdateSource", **asked) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


def test_a_key_is_shown_once_and_known_by_its_prefix(api: Api, name: str, sources: Sources) -> None:
    """It opens the door at once; what is read of it afterwards is no key."""
    api.create(name)
    made = api("CreateWriteKey", workspace="shop", source=name)
    found = sources.find(made.secret)
    assert found is not None
    assert found.name == name
    (key,) = api.get(name).write_keys
    assert (key.id, key.prefix, key.state) == (made.write_key.id, made.secret[:10], nouns.WRITE_KEY_STATE_ACTIVE)
    assert made.secret not in str(api.get(name))
    assert hash_key(made.secret) not in str(api.get(name))


def test_the_last_use_of_a_key_is_told(api: Api, name: str, sources: Sources) -> None:
    """Absent until it was used; of a key in the file as well."""
    api.create(name)
    secret = api("CreateWriteKey", workspace="shop", source=name).secret
    assert not api.get(name).write_keys[0].HasField("last_use_time")
    assert sources.find(secret)
    assert sources.find("filed")
    assert api.get(name).write_keys[0].last_use_time.ToNanoseconds() == NOW
    assert api.get("filed").write_keys[0].last_use_time.ToNanoseconds() == NOW


def test_a_rotated_key_holds_for_the_overlap(api: Api, name: str, sources: Sources) -> None:
    """Both do until then; the answer says until when."""
    api.create(name)
    old = api("CreateWriteKey", workspace="shop", source=name)
    rotate: dict[str, Any] = {"workspace": "shop", "source": name, "write_key_id": old.write_key.id}
    new = api("RotateWriteKey", **rotate, overlap=Duration(seconds=60))
    assert sources.find(old.secret)
    assert sources.find(new.secret)
    assert new.replaced.expire_time.ToNanoseconds() == NOW + 60 * 10**9
    longer = api("RotateWriteKey", **rotate, overlap=Duration(seconds=600))
    assert longer.replaced.expire_time == new.replaced.expire_time
    api("RotateWriteKey", **rotate)
    assert sources.find(old.secret) is None
    assert api.refusal("RotateWriteKey", **rotate) == ("FAILED_PRECONDITION", "WRITE_KEY_NOT_ACTIVE")


def test_a_revoked_key_is_refused_when_the_rpc_returns(api: Api, name: str, sources: Sources) -> None:
    """Although it was looked up before; revoking it again changes nothing."""
    api.create(name)
    made = api("CreateWriteKey", workspace="shop", source=name)
    assert sources.find(made.secret)
    revoke: dict[str, Any] = {"workspace": "shop", "source": name, "write_key_id": made.write_key.id}
    revoked = api("RevokeWriteKey", **revoke).write_key
    assert sources.find(made.secret) is None
    assert revoked.state == nouns.WRITE_KEY_STATE_REVOKED
    assert api("RevokeWriteKey", **revoke).write_key.revoke_time == revoked.revoke_time


def test_a_key_may_have_a_lifetime(api: Api, name: str) -> None:
    """From now on; less than a second or more than ten years breaks the contract."""
    api.create(name)
    key = api("CreateWriteKey", workspace="shop", source=name, lifetime=Duration(seconds=5)).write_key
    assert key.expire_time.ToNanoseconds() == NOW + 5 * 10**9
    for seconds in (0, -1, 400_000_000):
        refused = api.refusal("CreateWriteKey", workspace="shop", source=name, lifetime=Duration(seconds=seconds))
        assert refused == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


def test_a_source_has_so_many_keys_that_hold(api: Api, name: str) -> None:
    """Twenty; one that is revoked makes room, and rotating needs room as well."""
    api.create(name)
    ids = [api("CreateWriteKey", workspace="shop", source=name).write_key.id for _ in range(20)]
    full = ("FAILED_PRECONDITION", "TOO_MANY_WRITE_KEYS")
    assert api.refusal("CreateWriteKey", workspace="shop", source=name) == full
    assert api.refusal("RotateWriteKey", workspace="shop", source=name, write_key_id=ids[0]) == full
    api("RevokeWriteKey", workspace="shop", source=name, write_key_id=ids[0])
    api("CreateWriteKey", workspace="shop", source=name)


def test_a_source_of_the_file_is_read_only(api: Api) -> None:
    """It is shown with where it stands, and every change is refused with that reason."""
    filed = api.get("filed")
    assert filed.origin == nouns.SOURCE_ORIGIN_FILE
    assert not filed.HasField("create_time")
    named: dict[str, Any] = {"workspace": "shop", "source": "filed"}
    key: dict[str, Any] = {"write_key_id": filed.write_keys[0].id}
    mask = FieldMask(paths=["disabled"])
    refusals = [
        api.refusal("DeleteSource", **named),
        api.refusal("CreateWriteKey", **named),
        api.refusal("RotateWriteKey", **named, **key),
        api.refusal("RevokeWriteKey", **named, **key),
        api.refusal("UpdateSource", source=nouns.Source(workspace="shop", name="filed"), update_mask=mask),
    ]
    assert set(refusals) == {("FAILED_PRECONDITION", "SOURCE_READ_ONLY")}


@pytest.mark.parametrize(
    "rpc", ["GetSource", "DeleteSource", "CreateWriteKey", "RotateWriteKey", "RevokeWriteKey", "UpdateSource"]
)
def test_what_is_not_there_is_not_found(api: Api, name: str, rpc: str) -> None:
    """A source that does not exist; and a key that its source does not have."""
    key: dict[str, Any] = {"write_key_id": "nope"} if rpc in {"RotateWriteKey", "RevokeWriteKey"} else {}
    named: dict[str, Any] = {"workspace": "shop", "source": name}
    if rpc == "UpdateSource":
        named = {"source": nouns.Source(workspace="shop", name=name), "update_mask": FieldMask(paths=["limits"])}
    assert api.refusal(rpc, **named, **key) == ("NOT_FOUND", "SOURCE_NOT_FOUND")
    if key:
        api.create(name)
        assert api.refusal(rpc, **named, **key) == ("NOT_FOUND", "WRITE_KEY_NOT_FOUND")


def test_sources_are_listed_in_pages(api: Api) -> None:
    """By workspace and name; a source that goes between two pages takes no other with it."""
    names = sorted(new_id() for _ in range(5))
    for one in names:
        api("CreateSource", source=nouns.Source(workspace="paged", name=one))
    first = api("ListSources", workspace="paged", page_size=2)
    assert [source.name for source in first.sources] == names[:2]
    api("DeleteSource", workspace="paged", source=names[1])
    token, rest = first.next_page_token, []
    while token:
        page = api("ListSources", workspace="paged", page_size=2, page_token=token)
        rest += [source.name for source in page.sources]
        token = page.next_page_token
    assert rest == names[2:]
    assert {source.workspace for source in api("ListSources", workspace="-", page_size=1_000).sources} >= {
        "paged",
        "shop",
    }


def test_a_page_token_is_for_its_own_list(api: Api) -> None:
    """Of another workspace, another rpc, or made up, it is refused."""
    for number in range(2):
        api("CreateSource", source=nouns.Source(workspace="tokens", name=f"s{number}-{new_id()}"))
    token = api("ListSources", workspace="tokens", page_size=1).next_page_token
    for workspace, wrong in (("shop", token), ("tokens", token + "A")):
        assert api.refusal("ListSources", workspace=workspace, page_token=wrong) == (
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
        )
    for junk in (token, "x", "====", "é"):
        assert api.refusal("ListWorkspaces", page_token=junk) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


def test_workspaces_are_those_that_have_a_source(api: Api) -> None:
    """With how many; the last source takes its workspace along."""
    for one in ("a", "b"):
        api("CreateSource", source=nouns.Source(workspace="counted", name=one))
    counts = {workspace.name: workspace.source_count for workspace in api("ListWorkspaces").workspaces}
    assert counts["counted"] == 2
    for one in ("a", "b"):
        api("DeleteSource", workspace="counted", source=one)
    assert "counted" not in {workspace.name for workspace in api("ListWorkspaces").workspaces}


def test_the_history_says_who_did_what_and_when(api: Api, name: str) -> None:
    """Newest first, in pages, after the source is gone as well; no key and no hash stands in it."""
    api.create(name, limits=nouns.SourceLimits(events_per_second=1, burst=1))
    made = api("CreateWriteKey", workspace="shop", source=name)
    named: dict[str, Any] = {"workspace": "shop", "source": name}
    api("RotateWriteKey", **named, write_key_id=made.write_key.id, overlap=Duration(seconds=1))
    api("RevokeWriteKey", **named, write_key_id=made.write_key.id)
    api("DeleteSource", **named)
    first = api("ListSourceChanges", **named, page_size=4)
    rest = api("ListSourceChanges", **named, page_token=first.next_page_token)
    changes = [*first.changes, *rest.changes]
    kinds = [nouns.SourceChangeKind.Name(change.kind).removeprefix("SOURCE_CHANGE_KIND_") for change in changes]
    assert kinds == ["DELETED", "KEY_REVOKED", "KEY_EXPIRING", "KEY_CREATED", "KEY_CREATED", "CREATED"]
    assert {(change.actor, change.source, change.change_time.ToNanoseconds()) for change in changes} == {
        ("ops", name, NOW)
    }
    assert '"events_per_second":1.0' in changes[-1].detail_json
    assert '"PURPOSE_ESSENTIAL"' in changes[-1].detail_json
    assert changes[1].write_key_id == changes[2].write_key_id == made.write_key.id
    assert hash_key(made.secret) not in str(changes)
    assert not rest.next_page_token
