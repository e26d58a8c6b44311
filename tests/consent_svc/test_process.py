"""The process itself: `python -m consent_svc`."""

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from clew.consent.v1 import consent_pb2 as nouns
from clew.consent.v1 import consent_service_pb2 as messages
from clew.consent.v1.consent_service_pb2_grpc import ConsentServiceStub
from clew.options.v1.privacy_pb2 import PURPOSE_ESSENTIAL
from tests.support.service_process import serving, started

MODULE = "consent_svc"


@contextmanager
def running(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], ConsentServiceStub]]:
    """The process over a data directory, and a stub for it."""
    with serving(MODULE, CLEW_DATA_DIR=str(data_dir)) as (process, channel):
        yield process, ConsentServiceStub(channel)


def refuse_all(stub: ConsentServiceStub) -> None:
    """Record a refusal of the essential purpose."""
    choice = nouns.PurposeChoice(purpose=PURPOSE_ESSENTIAL, choice=nouns.CHOICE_DENIED)
    stub.RecordConsent(
        messages.RecordConsentRequest(workspace="w", subject="p", choices=[choice], origin="test"), timeout=10
    )


def decision(stub: ConsentServiceStub) -> nouns.ConsentDecision:
    """Check the person."""
    items = [messages.ConsentQuery(subject="p")]
    response = stub.BatchCheckConsents(messages.BatchCheckConsentsRequest(workspace="w", items=items), timeout=10)
    return response.decisions[0]


def test_an_acknowledged_withdrawal_survives_a_killed_process(tmp_path: Path) -> None:
    """What was confirmed is on disk: a process that is killed at once loses none of it."""
    with running(tmp_path) as (process, stub):
        assert list(decision(stub).granted_purposes) == [PURPOSE_ESSENTIAL]
        refuse_all(stub)
        process.kill()
        process.wait(10)
    with running(tmp_path) as (_, stub):
        assert decision(stub) == nouns.ConsentDecision(epoch=1, basis=nouns.CONSENT_BASIS_RECORDED)


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    """It drains, closes the ledger and exits with 0."""
    with running(tmp_path) as (process, stub):
        refuse_all(stub)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_ledger_of_a_newer_program_is_told(tmp_path: Path) -> None:
    """It says that a newer program is needed, which no other directory would spare, and exits with 2."""
    with running(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "consent.db")) as ledger, ledger:
        ledger.execute("INSERT INTO schema_migrations VALUES (99, 'later', 'x', 1)")
    with started(MODULE, CLEW_DATA_DIR=str(tmp_path)) as newer:
        _, message = newer.communicate(timeout=30)
    assert newer.returncode == 2
    assert str(tmp_path) in message
    assert message.endswith("use a newer program\n")


def test_a_second_process_does_not_start_on_the_same_ledger(tmp_path: Path) -> None:
    """It says who owns the file and what to do, and exits with 2."""
    with running(tmp_path) as (process, _):
        with started(MODULE, CLEW_DATA_DIR=str(tmp_path)) as second:
            _, message = second.communicate(timeout=30)
        assert second.returncode == 2
        assert f"CLEW_DATA_DIR: {tmp_path}/consent.db is in use by process {process.pid}" in message


def test_it_does_not_start_with_categories_that_it_cannot_read(tmp_path: Path) -> None:
    """It names the variable and the entry, and exits with 2 before it opens anything."""
    with started(
        MODULE, CLEW_DATA_DIR=str(tmp_path / "unused"), CLEW_CONSENT_CATEGORIES="Analytics:analytics"
    ) as process:
        _, message = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "CLEW_CONSENT_CATEGORIES: 'Analytics:analytics' is not of the form" in message
    assert not (tmp_path / "unused").exists()
