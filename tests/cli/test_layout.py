"""The data directory: made once, its owner's only, and refused with advice where it cannot be used."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from cli.endpoints import Endpoints, NotRunning
from cli.layout import BadSecrets, DirectoryInUse, Layout, Secrets, write_private

ENDPOINTS = {"http": "http://127.0.0.1:1", "kafka": "127.0.0.1:2", "grpc": {}, "write_key": "k", "admin_token": "t"}


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_first_start_makes_secrets_and_files_that_hold_their_hashes(tmp_path: Path) -> None:
    """The keys in clear stand in one file only; all are their owner's, the directory too."""
    layout = Layout(tmp_path / "deep" / "data")
    made = layout.prepare()
    (source,) = json.loads(layout.sources.read_text())
    assert source["write_key_sha256"] == hashlib.sha256(made.write_key.encode()).hexdigest()
    assert made.write_key not in layout.sources.read_text() + layout.clients.read_text()
    assert made.admin_secret not in layout.clients.read_text()
    assert {_mode(path) for path in (layout.secrets, layout.sources, layout.clients)} == {0o600}
    assert _mode(layout.data_dir) == 0o700


def test_secrets_are_letters_and_digits() -> None:
    """One that began with a dash would be taken for an option by every command that it is given to."""
    made = [secret for _ in range(50) for secret in asdict(Secrets.new()).values()]
    assert all(secret.isalnum() and secret.isascii() and len(secret) == 32 for secret in made)
    assert len(set(made)) == len(made)


def test_logs_are_their_owners_only_whoever_made_the_directory(tmp_path: Path) -> None:
    """A directory of the user's own may be open to others; what processes write there is not."""
    tmp_path.chmod(0o755)
    Layout(tmp_path).prepare()
    assert _mode(tmp_path / "logs") == 0o700


def test_a_later_start_changes_nothing(tmp_path: Path) -> None:
    """Keys stay good, and what the user edited stays edited."""
    layout = Layout(tmp_path)
    made = layout.prepare()
    layout.sources.write_text("[]")
    assert layout.prepare() == made
    assert layout.sources.read_text() == "[]"
    assert Layout(tmp_path / "other").prepare() != made


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"write_key": "k"}', '{"colour": 1}'])
def test_broken_secrets_are_refused_with_advice(tmp_path: Path, content: str) -> None:
    """They are not overwritten: the hashes in the other files belong to them."""
    layout = Layout(tmp_path)
    layout.prepare()
    layout.secrets.write_text(content)
    with pytest.raises(BadSecrets, match="move it away together with"):
        layout.prepare()
    assert layout.secrets.read_text() == content


def test_a_directory_belongs_to_one_mesh(tmp_path: Path) -> None:
    """The second is told which process has it; when the first lets go, it is free."""
    layout = Layout(tmp_path / "data")
    held = layout.lock()
    with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}"):
        layout.lock()
    os.close(held)
    os.close(layout.lock())


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """An OSError that names it, before anything is started."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match="file"):
        Layout(path).lock()


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    """A reader sees the old content or the new one, and a left-over of a crash is in nobody's way."""
    path = tmp_path / "endpoints.json"
    path.with_name("endpoints.json.new").write_text("half")
    write_private(path, {"a": 1})
    write_private(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert _mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_endpoints_are_read_back(tmp_path: Path) -> None:
    """What `clew up` writes is what the other commands read."""
    write_private(Layout(tmp_path).endpoints, ENDPOINTS)
    assert Endpoints.read(tmp_path) == Endpoints(**ENDPOINTS)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"http": 1}', json.dumps({**ENDPOINTS, "x": 1})])
def test_endpoints_that_cannot_be_used_are_no_traceback(tmp_path: Path, content: str | None) -> None:
    """Absent or broken: the message says what to do."""
    if content is not None:
        Layout(tmp_path).endpoints.write_text(content)
    with pytest.raises(NotRunning, match="clew up"):
        Endpoints.read(tmp_path)
