"""`clew` itself: its version, an output that takes no more, and NO_COLOR."""

import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from mesh.span_writer import SegmentWriter, encode_span
from mesh.spans import SpanRecord
from tests.support.requirements import missing

_FULL = Path("/dev/full")
_COMMAND = (sys.executable, "-m", "cli")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory without a mesh, with a trace."""
    path = tmp_path_factory.mktemp("data")
    writer = SegmentWriter(path, "gateway")
    writer.write(encode_span(SpanRecord("a" * 32, "b" * 16, "gateway", 1, "POST /v1/batch", 10**18, 10**18 + 10**6)))
    writer.close()
    return path


def on_terminal(*arguments: str, columns: int = 80, **env: str) -> str:
    """What a command prints on a terminal."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **env}
    with subprocess.Popen(
        [*_COMMAND, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environment
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 4096):
                shown += part
        except OSError:
            # How Linux says that nobody has the other end any more.
            pass
        process.wait(30)
    os.close(leader)
    return shown.decode()


def test_the_version_is_the_packages() -> None:
    """`clew --version` prints one line, exit status 0."""
    done = subprocess.run([*_COMMAND, "--version"], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"clew {version('clew')}\n", "")


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("doctor",), "clew doctor"), (("trace", "last"), "clew trace"), (("topic", "--help"), "clew topic")],
)
def test_an_output_that_is_full_is_said_in_a_line(
    data_dir: Path, arguments: tuple[str, ...], name: str, *, buffered: bool
) -> None:
    """The command's name and why, exit status 1, whether the failure comes at once or at the end."""
    if not _FULL.exists():
        missing("this system has no /dev/full")
    env = {**os.environ, "CLEW_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "" if buffered else "1"}
    with _FULL.open("w") as full:
        done = subprocess.run(
            [*_COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=30
        )
    assert done.stderr == f"{name}: output cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", ["doctor", "trace last", "--help"])
def test_an_output_that_was_closed_is_no_error(data_dir: Path, arguments: str) -> None:
    """As a shell does it: exit status 0, and nothing is said."""
    env = {**os.environ, "CLEW_DATA_DIR": str(data_dir)}
    line = f"{sys.executable} -m cli {arguments} >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("doctor",), ("trace", "last"), ("--help",)])
def test_a_reader_that_has_enough_is_no_error(data_dir: Path, arguments: tuple[str, ...]) -> None:
    """As with `clew trace | head -0`: exit status 0, and nothing is said."""
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "CLEW_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        [*_COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=30
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("doctor",), ("trace", "last")])
def test_with_no_color_no_escape_sequence_is_printed(data_dir: Path, arguments: tuple[str, ...]) -> None:
    """Neither colours nor bold, on a terminal; an empty NO_COLOR does not count."""
    shown = on_terminal(*arguments, NO_COLOR="1", CLEW_DATA_DIR=str(data_dir))
    assert shown
    assert "\x1b" not in shown
    assert "\x1b" in on_terminal(*arguments, NO_COLOR="", CLEW_DATA_DIR=str(data_dir))


@pytest.mark.parametrize("command", [("schemas", "plan"), ("schemas", "apply"), ("topic", "read", "events")])
@pytest.mark.parametrize("address", ["nonsense", "http://", "file:///etc", "https://[x"])
def test_a_registrys_address_that_is_none_is_refused_by_its_option(command: tuple[str, ...], address: str) -> None:
    """Named as it was typed, exit status 2."""
    done = CliRunner().invoke(app, [*command, "--registry", address])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Invalid value for '--registry'" in done.stderr
    assert f"{address!r} is no address like https://registry.example" in done.stderr


def test_with_no_color_a_terminal_is_still_one(data_dir: Path) -> None:
    """Lines fit its width, and bars are drawn."""
    shown = on_terminal("trace", "last", columns=70, NO_COLOR="1", CLEW_DATA_DIR=str(data_dir))
    assert "━" in shown
    assert all(len(line) <= 70 for line in re.split(r"\r?\n", shown))
