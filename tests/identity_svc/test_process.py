"""The process itself: `python -m identity_svc`."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clew.identity.v1 import identity_service_pb2 as messages
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from tests.support.service_process import serving, started

MODULE = "identity_svc"
LOGIN = messages.BatchResolveIdentitiesRequest(
    workspace="w",
    items=[messages.IdentityQuery(anonymous_id="a1"), messages.IdentityQuery(anonymous_id="a1", user_id="u1")],
)


@contextmanager
def running(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], IdentityServiceStub]]:
    """The process over a data directory, and a stub for it."""
    with serving(MODULE, CLEW_DATA_DIR=str(data_dir)) as (process, channel):
        yield process, IdentityServiceStub(channel)


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
        with started(MODULE, CLEW_DATA_DIR=str(tmp_path)) as second:
            _, message = second.communicate(timeout=30)
        assert second.returncode == 2
        assert f"CLEW_DATA_DIR: {tmp_path}/identity/identity.db is in use by process {process.pid}" in message


def test_bad_settings_end_it_before_it_opens_anything(tmp_path: Path) -> None:
    """Each problem names its variable; the exit status is 2."""
    with started(
        MODULE, CLEW_DATA_DIR=str(tmp_path / "unused"), CLEW_CLIENTS_FILE=str(tmp_path / "nowhere.json")
    ) as process:
        _, message = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "CLEW_CLIENTS_FILE" in message
    with started(MODULE, CLEW_DATA_DIR=str(tmp_path / "unused"), CLEW_IDENTITY_CACHE_SIZE="5") as process:
        _, message = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "CLEW_IDENTITY_CACHE_SIZE: 5 is too small" in message
    assert not (tmp_path / "unused").exists()
