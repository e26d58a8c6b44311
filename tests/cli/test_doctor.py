"""`clew doctor`: each finding says what was found, and what to do where it is not fine."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import doctor as module
from cli.doctor import Finding, doctor
from cli.endpoints import Endpoints, NotRunning
from cli.health import kafka_problem
from cli.layout import Layout, write_private


def findings(rows: Iterator[Finding]) -> dict[str, Finding]:
    """Findings by what was looked at."""
    return {finding.what: finding for finding in rows}


def test_what_is_installed_is_fine_here() -> None:
    """The tests run with all that the mesh needs; each is shown with its version."""
    found = findings(module._installed())
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["grpcio"].found


def test_a_package_that_is_missing_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(module, "_PACKAGES", ("no-such-package-of-ours",))
    finding = findings(module._installed())["no-such-package-of-ours"]
    assert (finding.state, finding.advice) == ("bad", "run `make setup`")


def test_a_tool_that_is_missing_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command but its own needs it."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert {finding.state for finding in module._tools()} == {"note"}


def test_a_data_directory_that_does_not_exist_is_no_fault(tmp_path: Path) -> None:
    """`clew up` makes it."""
    (finding,) = module._data(tmp_path / "none")
    assert (finding.state, finding.advice) == ("note", "`clew up` makes it")


def test_a_data_directory_that_is_a_file_is_bad(tmp_path: Path) -> None:
    """`clew up` could not use it either: another one is to be named."""
    file = tmp_path / "file"
    file.touch()
    (finding,) = module._data(file)
    assert (finding.state, finding.found) == ("bad", f"{file} is no directory")
    assert finding.advice == "name another --data-dir"
    with pytest.raises(NotRunning, match="Not a directory; name another --data-dir"):
        Endpoints.read(file)


def test_secrets_that_others_can_read_are_bad(tmp_path: Path) -> None:
    """The advice is the command that mends it."""
    layout = Layout(tmp_path)
    layout.prepare()
    assert findings(module._data(tmp_path))["secrets"].state == "ok"
    layout.secrets.chmod(0o644)
    finding = findings(module._data(tmp_path))["secrets"]
    assert (finding.state, finding.advice) == ("bad", f"chmod 600 {layout.secrets}")


def test_little_room_on_the_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before SQLite says so."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    assert findings(module._data(tmp_path))["free disk"].state == "bad"


def test_a_directory_that_cannot_be_written_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before the first start fails."""
    # Not by its mode: the tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert findings(module._data(tmp_path))["data directory"].state == "bad"


def test_a_mesh_that_died_without_a_word_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its endpoints are still written down, and nothing answers there: exit status 1, and where to look."""
    # Wide enough for one line a finding, however long the path of the test's folder is.
    monkeypatch.setenv("COLUMNS", "400")
    # Bound and not listening, so that nobody else listens there meanwhile.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        dead = {
            "http": f"http://{address}",
            "kafka": address,
            "grpc": {"identity": address},
            "write_key": "",
            "admin_token": "",
        }
        write_private(Layout(tmp_path).endpoints, dead)
        found = findings(module._running(tmp_path))
        assert {name: finding.state for name, finding in found.items()} == {
            "identity": "bad",
            "HTTP edge": "bad",
            "Kafka": "bad",
        }
        assert doctor(tmp_path) == 1
    assert "identity.log" in capsys.readouterr().out


def test_nothing_running_is_no_fault(tmp_path: Path) -> None:
    """It is said, with what to start."""
    assert findings(module._running(tmp_path))["mesh"].state == "note"


def test_kafkas_addresses_are_tried_one_after_the_other() -> None:
    """One that takes connections is enough; what is no address is said."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        good, bad = (f"127.0.0.1:{each.getsockname()[1]}" for each in (server, closed))
        assert kafka_problem(good) == ""
        assert kafka_problem(f"{bad},{good}") == ""
        assert "does not answer" in kafka_problem(bad)
    assert "no HOST:PORT" in kafka_problem("nonsense")
    assert kafka_problem("") == "no address"
