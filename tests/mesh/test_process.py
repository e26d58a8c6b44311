"""What a process does around its work."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid

import pytest

from mesh.clock import FixedClock, SystemClock
from mesh.ids import new_id
from mesh.process import run_process, stop_signal
from mesh.settings import SettingsError


def test_settings_errors_end_the_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot be configured says on standard error what to set, and exits with status 2."""
    monkeypatch.setattr(sys, "setswitchinterval", lambda _seconds: None)

    async def main() -> None:
        raise SettingsError(["CLEW_A: is required and not set; set it", "CLEW_B: 'x' is no number"])

    with pytest.raises(SystemExit) as caught:
        run_process(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "CLEW_A: is required and not set; set it",
        "CLEW_B: 'x' is no number",
    ]


PROGRAM = """
import asyncio, sys
from mesh.process import freeze_heap, run_process, stop_signal

async def main():
    stop = stop_signal()
    freeze_heap()
    print(type(asyncio.get_running_loop()).__module__, sys.getswitchinterval(), flush=True)
    await stop.wait()
    print("drained", flush=True)

run_process(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_runs_until_a_signal(number: signal.Signals) -> None:
    """On uvloop with a short switch interval; SIGTERM or SIGINT asks it to drain, and it ends with status 0."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["uvloop", "0.0005"]
        process.send_signal(number)
        assert process.stdout.read() == "drained\n"
    assert process.returncode == 0


async def test_a_second_signal_has_its_usual_effect() -> None:
    """The first SIGINT sets the event; the second one interrupts."""
    stop = stop_signal()
    before = signal.getsignal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(stop.wait(), 5)
    assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ids_sort_by_time() -> None:
    """Ids are UUIDv7: distinct, and in order of creation."""
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert uuid.UUID(ids[0]).version == 7


def test_clocks() -> None:
    """The system clock moves by itself, a fixed one when it is told to."""
    assert SystemClock().now_ns() > 1_700_000_000 * 10**9
    clock = FixedClock(5)
    clock.advance(1.5)
    assert clock.now_ns() == 1_500_000_005
