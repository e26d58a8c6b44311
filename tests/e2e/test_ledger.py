"""`clew ledger` against a running mesh: what was sent is what is counted, also after a restart and on PostgreSQL."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mesh.ids import new_id
from tests.support.mesh import RunningMesh, running_mesh


def ledger(mesh: RunningMesh, *options: str) -> tuple[int, str]:
    """Run the command as a user does: exit status and what it printed."""
    command = [sys.executable, "-m", "cli", "ledger", "--data-dir", str(mesh.data_dir), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def page(message_id: str) -> dict[str, Any]:
    """One page call."""
    return {"type": "page", "messageId": message_id, "anonymousId": "a"}


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_was_sent_is_counted_across_a_restart(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """The embedded broker forgets its records when it stops; the ledger does not, and says that it adds up."""
    options = ["--database", request.getfixturevalue("postgres_url")] if database == "postgres" else []
    first, second = new_id(), new_id()
    with running_mesh(tmp_path / "data", *options) as mesh:
        assert mesh.edge.post(page(first), page(second), {"type": "nonsense"}).status == 200
        assert mesh.edge.post(page(first)).verdicts == ["duplicate"]
        status, printed = ledger(mesh, "--json", "--since", "1h")
        assert status == 0, printed
        answer = json.loads(printed)
        (entry,) = answer["entries"]
        assert [int(entry[name]) for name in ("received", "published", "duplicate")] == [4, 2, 1]
        assert entry["rejected"] == [{"reason": "FAILURE_REASON_UNKNOWN_TYPE", "count": "1"}]
        assert answer["balanced"] is True
        assert mesh.stop() == 0
    with running_mesh(tmp_path / "data", *options) as mesh:
        # The record is gone with the broker: it is published again, and not taken for a copy.
        assert mesh.edge.post(page(first)).verdicts == ["accepted"]
        status, printed = ledger(mesh)
        assert status == 0, printed
        (row,) = [line.split() for line in printed.splitlines() if line.startswith("main")]
        assert row == ["main", "default", "5", "3", "1", "1"]
        assert "balanced" in printed
