"""The contract's lock: what is lost or changed fails, what is new is asked for, and nothing is forgotten."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests.support.gateway import WRITE_KEY, RunningGateway, running_gateway
from tools import contract_lock
from tools.contract_lock import Entries, compare, current_entries, main, read_lock
from tools.openapi.comments import build_sources

ENCODER = contract_lock.ENCODER.read_text()


@pytest.fixture(scope="module")
def sources() -> dict[str, FileDescriptorProto]:
    """The contracts as they are."""
    return build_sources()


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, FileDescriptorProto]) -> Path:
    """A lock of the contracts as they are, in a place of its own."""
    path = tmp_path / "contract.lock"
    path.write_text(json.dumps(current_entries(sources, ENCODER)))
    monkeypatch.setattr(contract_lock, "LOCK", path)
    monkeypatch.setattr(contract_lock, "build_sources", lambda: sources)
    return path


def edit(lock: Path, **changes: str | None) -> Entries:
    """Change entries of a lock, or take them out; what stands in it then."""
    entries = read_lock(lock)
    for name, value in changes.items():
        if value is None:
            del entries[name]
        else:
            entries[name] = value
    lock.write_text(json.dumps(entries))
    return entries


@pytest.mark.parametrize(
    "name",
    [
        "route GET /v1/gone",
        "reason ERROR_REASON_GONE",
        "reason ERROR_REASON_INTERNAL metadata gone",
        "record header clew-gone",
        "metadata x-gone",
    ],
)
def test_what_is_lost_fails_the_check(lock: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, with what to do; neither the check nor the writer makes it go."""
    before = edit(lock, **{name: "was here"})
    assert main(["--check"]) == main([]) == 1
    said = capsys.readouterr().out
    assert f"lost: {name}" in said
    assert "by hand" in said
    assert read_lock(lock) == before


@pytest.mark.parametrize(
    "name", ["route POST /v1/tokens", "reason ERROR_REASON_OVERLOADED", "route GET /v1/jwks", "record header ce_id"]
)
def test_what_is_changed_fails_the_check(lock: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Another rpc, access, body, number or status under the same name: the old and the new are shown."""
    before = edit(lock, **{name: "something else"})
    assert main(["--check"]) == main([]) == 1
    assert f"changed: {name}: from `something else` to `" in capsys.readouterr().out
    assert read_lock(lock) == before


def test_what_is_new_is_asked_for_and_added(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check says how to add it, and adding it satisfies the check."""
    whole = read_lock(lock)
    edit(lock, **{"route GET /v1/jwks": None, "reason ERROR_REASON_DRAINING metadata retry_after_seconds": None})
    assert main(["--check"]) == 1
    said = capsys.readouterr().out
    assert "new: route GET /v1/jwks" in said
    assert "make proto" in said
    assert main([]) == main(["--check"]) == 0
    assert read_lock(lock) == whole


def test_a_change_beside_an_addition_adds_nothing(lock: Path) -> None:
    """A lock that is in dispute stays as it is."""
    before = edit(lock, **{"route GET /v1/jwks": None, "route GET /v1/gone": "x"})
    assert main([]) == 1
    assert read_lock(lock) == before


def test_an_equal_contract_has_no_change(sources: dict[str, FileDescriptorProto]) -> None:
    """The committed lock is that of the contracts."""
    change = compare(read_lock(contract_lock.LOCK), current_entries(sources, ENCODER))
    assert (change.broken, change.added) == ([], [])


def test_the_contract_is_read_and_not_only_listed(sources: dict[str, FileDescriptorProto]) -> None:
    """A header that the encoder no longer writes and a key that a comment no longer shows are missed."""
    full = current_entries(sources, ENCODER)
    fewer = {name: FileDescriptorProto.FromString(file.SerializeToString()) for name, file in sources.items()}
    for location in fewer["clew/errors/v1/errors.proto"].source_code_info.location:
        location.leading_comments = location.leading_comments.replace('"scope": "clew.admin"', "")
    now = current_entries(fewer, ENCODER.replace('"clew-schema"', '"clew-scheme"'))
    change = compare(full, now)
    assert change.broken == [
        "lost: reason ERROR_REASON_INSUFFICIENT_SCOPE metadata scope",
        "lost: record header clew-schema",
    ]
    assert change.added == ["new: record header clew-scheme"]


@pytest.fixture
async def gateway() -> AsyncIterator[RunningGateway]:
    """A whole gateway."""
    async with running_gateway() as running:
        yield running


async def test_records_carry_the_headers_of_the_lock(gateway: RunningGateway) -> None:
    """What is read from the encoder's source is what stands on the topics, no more and no less."""
    body = {"batch": [{"type": "track", "event": "a", "anonymousId": "a"}, {"type": "nonsense"}]}
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.post("/v1/batch", json=body, headers={"X-Write-Key": WRITE_KEY})).status_code == 200
    records = [*gateway.bus.read("clew.events.v1"), *gateway.bus.read("clew.events.failed.v1")]
    written = {name for record in records for name, _ in record.headers}
    prefix = "record header "
    locked = {name.removeprefix(prefix) for name in read_lock(contract_lock.LOCK) if name.startswith(prefix)}
    assert written == locked
