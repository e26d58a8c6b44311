"""Child processes: real ones, that serve, crash, hang and refuse to stop."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from cli import children
from cli.children import Child, ChildFailed, keep_running, tail

# Writes its process id once it serves; what it does then is told by the environment.
_PROGRAM = """
import os, signal, sys, time
if os.environ["DO"] == "crash":
    sys.exit("cannot start: no luck")
if os.environ["DO"] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["DO"] != "hang":
    open("serving", "w").write(str(os.getpid()))
time.sleep(60)
"""


async def _exists(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.01)


async def _until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes make it true
            await asyncio.sleep(0.01)


@pytest.fixture
async def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Child]:
    """A child in a directory of its own; it does as its environment's DO says."""
    (tmp_path / "program.py").write_text(_PROGRAM)
    monkeypatch.chdir(tmp_path)
    made = Child(
        "program", "program", {"DO": "serve"}, tmp_path / "program.log", partial(_exists, tmp_path / "serving")
    )
    yield made
    if made.pid and made.process is not None:
        made.process.kill()
        await made.process.wait()


async def test_a_failure_is_told_without_what_earlier_runs_wrote(child: Child) -> None:
    """Their faults are mended, maybe; the log keeps them."""
    child.log.write_text("an old fault\n" * 3)
    child.env = {"DO": "crash"}
    await child.start()
    with pytest.raises(ChildFailed) as caught:
        await child.wait_ready(10)
    assert "cannot start: no luck" in str(caught.value)
    assert "old fault" not in str(caught.value)
    assert "old fault" in child.log.read_text()


async def test_a_child_is_ready_when_it_serves_and_stops_when_told(child: Child) -> None:
    """In a session of its own, so that Ctrl-C reaches only the supervisor."""
    await child.start()
    await child.wait_ready(10)
    assert child.pid is not None
    assert os.getsid(child.pid) == child.pid
    await child.stop()
    assert child.pid is None
    await child.stop()


async def test_a_child_that_ends_before_it_serves_fails_with_the_end_of_its_log(child: Child) -> None:
    """At once, not after the patience is over."""
    child.env = {"DO": "crash"}
    began = time.monotonic()
    await child.start()
    with pytest.raises(ChildFailed, match=r"program ended with status 1; the end of (?s:.)*cannot start: no luck"):
        await child.wait_ready(30)
    assert time.monotonic() - began < 10


async def test_a_child_that_never_serves_fails_in_time(child: Child) -> None:
    """It still runs: the supervisor decides what to do with it."""
    child.env = {"DO": "hang"}
    await child.start()
    with pytest.raises(ChildFailed, match=r"does not serve after 0\.3 s"):
        await child.wait_ready(0.3)
    assert child.pid is not None


async def test_a_child_that_does_not_stop_is_killed(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time for a drain."""
    monkeypatch.setattr(children, "STOP_SECONDS", 0.3)
    child.env = {"DO": "stubborn"}
    await child.start()
    await child.wait_ready(10)
    await child.stop()
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


async def test_a_crashed_child_is_restarted_with_backoff_and_it_is_said(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time later than the time before, while it keeps crashing."""
    monkeypatch.setattr(children, "_FIRST_BACKOFF", 0.05)
    said: list[str] = []
    again: list[int] = []

    async def restarted() -> None:
        again.append(child.restarts)

    await child.start()
    await child.wait_ready(10)
    watcher = asyncio.create_task(keep_running(child, said.append, restarted))
    for restart in (1, 2):
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await _until(lambda restart=restart: len(again) == restart)
    watcher.cancel()
    assert [line.partition(" (log")[0] for line in said] == [
        "program ended with status -9; restarting in 0.05 s",
        "program serves again (restart 1)",
        "program ended with status -9; restarting in 0.1 s",
        "program serves again (restart 2)",
    ]


async def test_a_child_that_crashes_at_once_is_tried_again_and_again(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves as soon as what kept it from serving is gone."""
    monkeypatch.setattr(children, "_FIRST_BACKOFF", 0.02)
    said: list[str] = []
    child.env = {"DO": "crash"}
    await child.start()
    watcher = asyncio.create_task(keep_running(child, said.append))
    await _until(lambda: child.restarts > 1)
    child.env = {"DO": "serve"}
    await _until(lambda: any("serves again" in line for line in said))
    assert any(line.startswith("program: program ended with status 1") for line in said)
    watcher.cancel()


async def test_a_restart_that_the_disk_refuses_is_said_and_tried_again(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher outlives it: otherwise the process would stay down in silence."""
    monkeypatch.setattr(children, "_FIRST_BACKOFF", 0.02)
    said: list[str] = []
    await child.start()
    await child.wait_ready(10)
    good, child.log = child.log, child.log.parent / "gone" / "program.log"
    watcher = asyncio.create_task(keep_running(child, said.append))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await _until(lambda: any("No such file" in line for line in said))
    child.log = good
    await _until(lambda: any("serves again" in line for line in said))
    watcher.cancel()


def test_the_end_of_a_log(tmp_path: Path) -> None:
    """Its last lines, whatever bytes they are; a log that is not there is said, not raised."""
    log = tmp_path / "log"
    log.write_bytes(b"\n".join(b"line %d" % number for number in range(5_000)) + b"\n\xff\xfe")
    assert tail(log, 3).splitlines() == ["line 4998", "line 4999", "\ufffd\ufffd"]
    assert tail(tmp_path / "none").startswith("(cannot be read")
