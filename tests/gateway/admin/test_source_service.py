"""Sources by rpc: the real servicer over a real server, as an administrator's tools see it."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call

from clew.admin.v1 import source_pb2 as nouns
from clew.admin.v1 import source_service_pb2 as messages
from clew.admin.v1.source_service_pb2_grpc import SourceServiceStub, add_SourceServiceServicer_to_server
from clew.options.v1.privacy_pb2 import Purpose
from gateway.admin.directory import Directory
from gateway.admin.service import SourceServicer
from gateway.admin.store import SqliteSourceStore
from gateway.admission import Admission
from gateway.sources import Source, Sources, hash_key
from mesh.clock import FixedClock
from mesh.ids import new_id
from mesh.interceptors.server import ServerInterceptor
from mesh.jwt import IssuerVerifiers, JwksSource, Signer, Verifier
from mesh.telemetry import start_telemetry
from tests.gateway.admin.stores import NOW
from tests.support.grpc_fixtures import BackgroundLoop, grpc_addr, grpc_loop, grpc_server  # noqa: F401

ISSUER, OUTSIDE = "https://clew.test", "https://login.example"
SIGNER = Signer(generate_private_key(SECP256R1()), ISSUER)
OUTSIDER = Signer(generate_private_key(SECP256R1()), OUTSIDE)
FILED = Source("shop", "filed", frozenset({1}))
Metadata = tuple[tuple[str, str], ...]


def bearer(*scopes: str, signer: Signer = SIGNER) -> Metadata:
    """Credentials with these scopes, which outlive the suite."""
    token = signer.sign("ops", "clew", lifetime_seconds=3_600, scopes=scopes, client_id="ops").token
    return (("authorization", f"Bearer {token}"),)


ADMIN = bearer("clew.admin")


@pytest.fixture(scope="module")
def sources() -> Sources:
    """What requests look into."""
    return Sources({hash_key("filed"): FILED}, FixedClock(NOW))


@pytest.fixture(scope="module")
def directory(grpc_loop: BackgroundLoop, sources: Sources) -> Iterator[Directory]:  # noqa: F811 - found by name
    """The directory, on the loop that the servicer runs on."""

    async def start() -> Directory:
        started = Directory(sources, SqliteSourceStore.open(None), FixedClock(NOW))
        await started.start()
        return started

    started = grpc_loop.run(start())
    yield started
    grpc_loop.run(started.close())


@pytest.fixture(scope="module")
def grpc_servicer(directory: Directory, sources: Sources) -> SourceServicer:
    """The servicer that pytest-grpc serves."""
    signers = {ISSUER: SIGNER, OUTSIDE: OUTSIDER}
    tokens = IssuerVerifiers(
        [Verifier(issuer, "clew", JwksSource.fixed(signer.jwks())) for issuer, signer in signers.items()]
    )
    return SourceServicer(directory, Admission(sources, tokens, {ISSUER}), FixedClock(NOW))


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[ServerInterceptor]:
    """What stands around every rpc of a running process."""
    return [ServerInterceptor(start_telemetry("gateway", None, {"OTEL_SDK_DISABLED": "true"}))]


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    """How pytest-grpc registers the servicer."""
    return add_SourceServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    """The stub that pytest-grpc calls it with."""
    return SourceServiceStub


@pytest.fixture
def name() -> str:
    """A source's name that no other test uses."""
    return new_id()


class Api:
    """The rpcs, called as an administrator."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __call__(self, rpc: str, metadata: Metadata = ADMIN, **fields: Any) -> Any:
        """Call an rpc with the fields of its request."""
        request = getattr(messages, f"{rpc}Request")(**fields)
        return getattr(self._stub, rpc)(request, metadata=metadata, timeout=10)

    def refusal(self, rpc: str, metadata: Metadata = ADMIN, **fields: Any) -> tuple[str, str]:
        """Call an rpc that is refused; the status and the one reason, both short."""
        with pytest.raises(grpc.RpcError) as raised:
            self(rpc, metadata, **fields)
        assert isinstance(raised.value, grpc.Call)
        status = from_call(raised.value)
        assert status is not None
        (detail,) = status.details
        info = ErrorInfo()
        assert detail.Unpack(info)
        return raised.value.code().name, info.reason.removeprefix("ERROR_REASON_")

    def create(self, source: str, **fields: Any) -> nouns.Source:
        """Make a source in the workspace of these tests."""
        made: nouns.Source = self("CreateSource", source=nouns.Source(workspace="shop", name=source, **fields)).source
        return made

    def get(self, source: str) -> nouns.Source:
        """Read one."""
        found: nouns.Source = self("GetSource", workspace="shop", source=source).source
        return found


@pytest.fixture
def api(grpc_stub: Any) -> Api:
    """The rpcs."""
    return Api(grpc_stub)


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
