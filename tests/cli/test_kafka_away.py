"""Commands that read topics, where no Kafka answers: at once, with the address and what to do."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.running import Mesh, MeshOptions

COMMANDS = (
    ("topic", "read", "events"),
    ("topics", "plan"),
)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that takes no connections: bound, and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_address_that_does_not_answer_is_told_at_once(nowhere: str, command: tuple[str, ...]) -> None:
    """Not after the client's ten seconds, and not in its words."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "cli", *command, "--kafka", nowhere], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"clew {command[0]}")
    assert f"Kafka at {nowhere} does not answer: Connection refused; start it, or name another" in ended.stderr
    assert ended.stdout == ""
    assert time.monotonic() - began < 9


def test_a_variable_that_clew_up_replaces_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has set and what has no effect is no secret; what is the same needs no word."""
    said: list[str] = []
    mesh = Mesh(MeshOptions(tmp_path), said.append)
    monkeypatch.setenv("CLEW_CLIENTS_FILE", "/nosuch")
    monkeypatch.setenv("CLEW_SPOOL_MIB", "0")
    ports = dict.fromkeys(("identity", "consent", "enrich", "gateway"), 1)
    for name in ports:
        mesh._environment(mesh._layout, name, ports, "h:1", ("127.0.0.1", 2))
        mesh._environment(mesh._layout, name, ports, "h:1", ("127.0.0.1", 2))
    assert said == [
        f"CLEW_CLIENTS_FILE is set and has no effect: `clew up` uses {mesh._layout.clients}; see its options"
    ]
