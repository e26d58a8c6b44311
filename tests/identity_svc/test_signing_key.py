"""The signing key's file: made once, private, and believed only when it is what it should be."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity_svc.signing_key import load_or_create_key
from mesh.jwt import thumbprint
from mesh.settings import SettingsError


def pem(key: EllipticCurvePrivateKey) -> bytes:
    """A key as it is kept."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_the_first_start_makes_the_key_and_later_ones_find_it(tmp_path: Path) -> None:
    """The same key, so the same thumbprint, start after start; readable by its owner only."""
    path = tmp_path / "identity" / "signing_key.pem"
    first, second = load_or_create_key(path), load_or_create_key(path)
    assert thumbprint(first.public_key()) == thumbprint(second.public_key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["signing_key.pem"]


def test_a_draft_that_a_crash_left_is_replaced(tmp_path: Path) -> None:
    """A half-written draft is no key and no obstacle."""
    (tmp_path / "signing_key.new").write_text("half a k")
    path = tmp_path / "signing_key.pem"
    load_or_create_key(path)
    load_or_create_key(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Once others could read it, anybody may hold it: the start stops and says what to do."""
    path = tmp_path / "signing_key.pem"
    load_or_create_key(path)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        load_or_create_key(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"nonsense", "no private key"), (pem(generate_private_key(SECP384R1())), "no P-256 key")],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """It is never overwritten: whatever it is, somebody may need it."""
    path = tmp_path / "signing_key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=problem):
        load_or_create_key(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"signing_key\.pem"):
        load_or_create_key(tmp_path / "file" / "signing_key.pem")


def test_without_a_place_the_key_lives_as_long_as_the_process() -> None:
    """No path: a key all the same, another one each time."""
    assert thumbprint(load_or_create_key(None).public_key()) != thumbprint(load_or_create_key(None).public_key())
