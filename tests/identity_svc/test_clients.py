"""ClientRegistry: who may ask for tokens."""

import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from identity_svc.clients import ClientRegistry
from identity_svc.errors import InvalidClient
from mesh.settings import SettingsError
from tests.identity_svc.conftest import registered

REGISTRY = ClientRegistry([registered("shop", "shop-secret", "profiles.read")])


def test_a_client_is_known_by_id_and_secret() -> None:
    """The right pair returns the client with its scopes."""
    assert REGISTRY.authenticate("shop", "shop-secret").scopes == ["profiles.read"]


@pytest.mark.parametrize(
    ("client_id", "secret"), [("shop", "wrong"), ("nobody", "shop-secret"), ("nobody", ""), ("", "shop-secret")]
)
def test_any_other_pair_is_refused_alike(client_id: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret and an unknown id give the same error after the same comparison."""
    compared = []
    compare_digest = hmac.compare_digest

    def compare(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return compare_digest(left, right)

    monkeypatch.setattr("identity_svc.clients.hmac.compare_digest", compare)
    with pytest.raises(InvalidClient) as caught:
        REGISTRY.authenticate(client_id, secret)
    assert str(caught.value) == str(InvalidClient())
    assert compared == [(64, 64)]


def test_without_a_file_nobody_is_registered() -> None:
    """No file is no error; every request is refused."""
    with pytest.raises(InvalidClient):
        ClientRegistry.load(None).authenticate("shop", "shop-secret")


def test_the_file_is_read(tmp_path: Path) -> None:
    """A list of objects with client_id, secret_sha256 and scopes."""
    digest = registered("shop", "shop-secret").secret_sha256
    path = tmp_path / "clients.json"
    path.write_text(json.dumps([{"client_id": "shop", "secret_sha256": digest, "scopes": ["clew.admin"]}]))
    assert ClientRegistry.load(path).authenticate("shop", "shop-secret").scopes == ["clew.admin"]


GOOD = {"client_id": "shop", "secret_sha256": "0" * 64, "scopes": ["profiles.read"]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"client_id": "shop"}, "no list of clients"),
        ([{"client_id": "shop"}], "secret_sha256"),
        ([GOOD | {"secret_sha256": "plain text"}], "secret_sha256"),
        ([GOOD | {"scopes": ["two words"]}], "scopes"),
        ([GOOD | {"secret": "shop-secret"}], "unknown field"),
        ([GOOD, GOOD], "names a client twice"),
    ],
)
def test_a_bad_file_stops_the_start_and_says_why(tmp_path: Path, content: Any, problem: str) -> None:
    """The error names the variable, the file and what is wrong in it."""
    path = tmp_path / "clients.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=rf"CLEW_CLIENTS_FILE: .*clients\.json .*{problem}"):
        ClientRegistry.load(path)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    """A file that is named must be there."""
    with pytest.raises(SettingsError, match="cannot be read"):
        ClientRegistry.load(tmp_path / "nowhere.json")


def test_a_file_that_is_no_text_stops_the_start(tmp_path: Path) -> None:
    """A file in another encoding than UTF-8 is told like any other bad one."""
    path = tmp_path / "clients.json"
    path.write_bytes(json.dumps([GOOD | {"client_id": "caf_"}]).encode().replace(b"caf_", b"caf\xe9"))
    with pytest.raises(SettingsError, match=r"CLEW_CLIENTS_FILE: .*clients\.json is no list of clients: .*utf-8"):
        ClientRegistry.load(path)
