"""The process itself: `python -m identity_svc`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from clew.identity.v1 import identity_service_pb2 as messages
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub

ROOT = Path(__file__).parents[2]
LOGIN = messages.BatchResolveIdentitiesRequest(
    workspace="w",
    items=[messages.IdentityQuery(anonymous_id="a1"), messages.IdentityQuery(anonymous_id="a1", user_id="u1")],
)


def start(data_dir: Path, **settings: str) -> subprocess.Popen[str]:
    """Start the process over a data directory."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'gen'}:{ROOT}", "CLEW_DATA_DIR": str(data_dir), **settings}
    return subprocess.Popen([sys.executable, "-m", "identity_svc"], env=environ, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], IdentityServiceStub]]:
    """Run the process and connect to it; it is killed at the end if it still runs."""
    process = start(data_dir)
    try:
        with process, grpc.insecure_channel(f"127.0.0.1:{_port(process)}") as channel:
            yield process, IdentityServiceStub(channel)
            process.kill()
    finally:
        process.kill()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        entry = json.loads(line)
        if entry["event"] == "serving":
            return int(entry["port"])
    raise AssertionError("the process ended before it served")


def test_what_was_answered_survives_a_killed_process(tmp_path: Path) -> None:
    """A process killed right after its answer forgets neither the profile nor its signing key."""
    with running(tmp_path) as (process, stub):
        answered = stub.BatchResolveIdentities(LOGIN, timeout=10)
        keys = stub.GetJwks(messages.GetJwksRequest(), timeout=10)
        process.kill()
        process.wait(10)
    with running(tmp_path) as (_, stub):
        assert stub.BatchResolveIdentities(LOGIN, timeout=10) == answered
        assert stub.GetJwks(messages.GetJwksRequest(), timeout=10) == keys


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    """It drains, closes the store and exits with 0."""
    with running(tmp_path) as (process, stub):
        stub.BatchResolveIdentities(LOGIN, timeout=10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_second_process_does_not_start_on_the_same_data(tmp_path: Path) -> None:
    """It says who owns the file and what to do, and exits with 2."""
    with running(tmp_path) as (process, _):
        with start(tmp_path) as second:
            _, message = second.communicate(timeout=30)
        assert second.returncode == 2
        assert f"CLEW_DATA_DIR: {tmp_path}/identity/identity.db is in use by process {process.pid}" in message


def test_bad_settings_end_it_before_it_opens_anything(tmp_path: Path) -> None:
    """Each problem names its variable; the exit status is 2."""
    with start(tmp_path / "unused", CLEW_CLIENTS_FILE=str(tmp_path / "nowhere.json")) as process:
        _, message = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "CLEW_CLIENTS_FILE" in message
    with start(tmp_path / "unused", CLEW_IDENTITY_CACHE_SIZE="5") as process:
        _, message = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "CLEW_IDENTITY_CACHE_SIZE: 5 is too small" in message
    assert not (tmp_path / "unused").exists()
