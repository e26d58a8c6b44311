"""Unmodified client libraries that are told 429 come again, and lose nothing by it."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.mesh import RunningMesh, running_mesh

# A library's batch of ten needs a full bucket, which takes five seconds once it is used up.
BURST = 10
# Calls, then a flush that waits for all deliveries; the ids that the library minted come out.
SCRIPT = """
import json, sys
from {module}.client import Client
failures = []
client = Client(sys.argv[1], host=sys.argv[2], on_error=lambda error, batch: failures.append(str(error)))
ids = [client.track("u1", "Seen", {{"number": number}})[1]["messageId"] for number in range(10)]
client.flush()
client.shutdown()
print(json.dumps({{"ids": ids, "failures": failures}}))
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh whose sources may send two events a second, and ten at once."""
    limits = {"CLEW_EVENTS_PER_SECOND": "2", "CLEW_EVENTS_BURST": str(BURST)}
    with running_mesh(tmp_path_factory.mktemp("limited") / "data", env=limits) as running:
        yield running


def _use_up(mesh: RunningMesh) -> None:
    """Send until the rate is used up."""
    for _ in range(100):
        answer = mesh.edge.post({"type": "page", "anonymousId": "filler"})
        if answer.status == 429:
            return
        assert answer.status == 200, answer
        assert answer.headers["ratelimit-policy"] == f'"events";q={BURST};w=5;qu="events"'
    raise AssertionError("no limit was met")


@pytest.mark.parametrize("module", ["segment.analytics", "rudderstack.analytics"])
def test_a_library_that_is_told_429_delivers_all(mesh: RunningMesh, module: str) -> None:
    """It waits and sends the same batch again; each event is on the topic once, and the application sees no error."""
    _use_up(mesh)
    command = [sys.executable, "-c", SCRIPT.format(module=module), mesh.endpoints.write_key, mesh.endpoints.http]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["failures"] == []
    found = mesh.events.wait(told["ids"], quiet=0.5)
    assert {message_id: len(records) for message_id, records in found.items()} == dict.fromkeys(told["ids"], 1)
