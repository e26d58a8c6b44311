"""`clew topic` against a running mesh, on the embedded broker and on a real Apache Kafka."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from clew.event.v1.event_pb2 import WARNING_REDRIVEN
from mesh.ids import new_id
from tests.support.mesh import RunningMesh, running_mesh
from tests.support.requirements import require
from tools.kafka.cluster import running_kafka

pytestmark = pytest.mark.timeout(240)


MENDER = """\
import json, sys
event = json.load(sys.stdin)
event["anonymousId"] = f"v{event['properties']['n'] % 3}"
print(json.dumps(event))
"""


def clew(mesh: RunningMesh, *arguments: str, expect: int = 0) -> str:
    """What a command prints; it must end with this status."""
    command = [sys.executable, "-m", "cli", *arguments, "--data-dir", str(mesh.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == expect, (done.stdout, done.stderr)
    return done.stdout


def lines(output: str) -> list[dict[str, Any]]:
    """The lines of JSON."""
    return [json.loads(line) for line in output.splitlines()]


def nameless(**members: Any) -> dict[str, Any]:
    """An event that fails: it names neither a visitor nor a user."""
    return {"type": "track", "event": "Bought", "messageId": new_id(), **members}


def named(ids: list[str]) -> list[str]:
    """The options that name these messages."""
    return [part for message_id in ids for part in ("--message-id", message_id)]


def fail(mesh: RunningMesh, *events: dict[str, Any], key: str = "") -> list[str]:
    """Send events that are refused; their message ids."""
    answer = mesh.edge.post(*events, key=key)
    assert set(answer.verdicts) == {"rejected"}, answer.json
    return [event["messageId"] for event in events]


def test_what_failed_is_found_mended_and_sent(mesh: RunningMesh) -> None:
    """From the answer of the edge to the event on its topic, as an operator goes about it."""
    began = time.time()
    ids = fail(mesh, nameless(properties={"total": 1.5}), nameless(type="nonsense", userId="u-1"))
    (first,) = lines(clew(mesh, "topic", "read", "failed", "--message-id", ids[0], "--json"))
    assert first["payload"]["properties"] == {"total": 1.5}
    assert first["value"]["reason"] == "FAILURE_REASON_MISSING_IDENTIFIER"
    assert first["headers"]["clew-message-id"] == ids[0]
    place = f"{first['partition']}:{first['offset']}"
    (same,) = lines(clew(mesh, "topic", "read", "failed", "--offsets", place, "--json"))
    assert same == first
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began - 1))
    recent = clew(mesh, "topic", "read", "failed", "--from", since, "--reason", "unknown_type", "--json")
    assert ids[1] in {line["value"]["message_id"] for line in lines(recent)}

    fix = ["--set", 'userId="u-mended"']
    still = clew(mesh, "topic", "redrive", *named(ids), *fix, expect=1)
    assert "1 ready, 1 still failing" in still
    assert "add --yes" in still
    sent = clew(mesh, "topic", "redrive", *named(ids[:1]), *fix, "--yes", "--note", "OPS-7")
    assert "sent: 1 accepted" in sent
    published = mesh.events.one(ids[0])
    assert published.message.user_id == "u-mended"
    assert WARNING_REDRIVEN in published.message.warnings
    (seen,) = lines(clew(mesh, "topic", "read", "events", "--message-id", ids[0], "--json"))
    assert seen["value"]["user_id"] == "u-mended"

    assert "redriven before" in clew(mesh, "topic", "redrive", *named(ids[:1]), *fix, "--yes")
    assert "sent: 1 duplicate" in clew(mesh, "topic", "redrive", *named(ids[:1]), *fix, "--yes", "--again")
    entries = lines(clew(mesh, "topic", "read", "audit", "--json"))
    events = [
        (entry["value"].get("note", ""), event)
        for entry in entries
        for event in entry["value"]["events_redriven"]["events"]
        if event["message_id"] == ids[0] and entry["value"]["events_redriven"]["phase"] == "REDRIVE_PHASE_ENDED"
    ]
    assert [event["outcome"] for _, event in events] == ["REDRIVE_OUTCOME_ACCEPTED", "REDRIVE_OUTCOME_DUPLICATE"]
    assert events[0][0] == "OPS-7"
    assert events[0][1]["changed_paths"] == ["/userId"]
    assert "u-mended" not in json.dumps(entries)
    clew(mesh, "ledger")


def test_a_command_mends_many(mesh: RunningMesh) -> None:
    """Hundreds of events in several calls: each visitor's keep their order, and each stands on the topic once."""
    events = [nameless(properties={"n": number}) for number in range(450)]
    ids = fail(mesh, *events)
    mender = Path(mesh.data_dir) / "mend.py"
    mender.write_text(MENDER)
    first = lines(clew(mesh, "topic", "read", "failed", "--message-id", ids[0], "--json"))[0]
    place = f"{first['partition']}:{first['offset']}-{first['offset'] + 449}"
    # One interpreter an event would take a minute: the first ten by the command, the rest by a setting.
    clew(mesh, "topic", "redrive", "-o", place, "-n", "10", "--fix", f"{sys.executable} -S {mender}", "--yes")
    sent = lines(clew(mesh, "topic", "redrive", "-o", place, "--set", 'anonymousId="v3"', "--yes", "--json"))
    verdicts = [line.get("verdict", line["status"]) for line in sent]
    assert verdicts == ["redriven_before"] * 10 + ["accepted"] * 440
    found = mesh.events.wait(ids, quiet=0.5)
    assert {len(records) for records in found.values()} == {1}
    for visitor in ("v0", "v1", "v2", "v3"):
        numbers = [
            json.loads(record.message.properties_json)["n"]
            for record in mesh.events.records
            if record.message.message_id in found and record.message.anonymous_id == visitor
        ]
        assert numbers == sorted(numbers)
        assert numbers


def test_the_rate_of_the_source_is_waited_for(mesh: RunningMesh) -> None:
    """A redrive takes no more than the source may send, and goes on by itself until all are sent."""
    name = f"slow-{new_id()[-8:]}"
    made = json.loads(clew(mesh, "source", "create", name, "--json"))
    ids = fail(mesh, *(nameless() for _ in range(12)), key=made["secret"])
    clew(mesh, "source", "update", name, "--rate", "4", "--burst", "5")
    out = clew(mesh, "topic", "redrive", "--source", name, "--set", 'userId="u"', "--yes")
    assert "sent: 12 accepted" in out
    assert {len(records) for records in mesh.events.wait(ids).values()} == {1}


def test_an_outage_is_waited_for(mesh: RunningMesh) -> None:
    """Identity does not answer for a while: nothing is filed anew, and the redrive comes to its end."""
    ids = fail(mesh, *(nameless() for _ in range(3)))
    before = [record.message.message_id for record in mesh.failed.now()]
    frozen = threading.Event()

    def freeze() -> None:
        with mesh.stopped("identity"):
            frozen.set()
            time.sleep(6)

    thread = threading.Thread(target=freeze)
    thread.start()
    frozen.wait(10)
    out = clew(mesh, "topic", "redrive", *named(ids), "--set", 'userId="u"', "--yes")
    thread.join()
    assert "sent: " in out
    assert {len(records) for records in mesh.events.wait(ids, quiet=0.5).values()} == {1}
    assert [record.message.message_id for record in mesh.failed.now()] == before


def test_events_are_copied_to_a_topic_of_ones_own(mesh: RunningMesh) -> None:
    """Byte for byte, so that they decode; once, however often it is run."""
    message_id = new_id()
    mesh.edge.post({**nameless(userId="u-copy"), "messageId": message_id})
    original = mesh.events.one(message_id)
    target = f"copies.{new_id()}"
    copy = ["topic", "replay", "events", "--message-id", message_id, "--to", target, "--create"]
    assert "1 would be copied" in clew(mesh, *copy)
    for said in ("1 copied", "0 copied"):
        assert said in clew(mesh, *copy, "--yes")
    (copied,) = lines(clew(mesh, "topic", "read", target, "--json"))
    assert (copied["key"], copied["value"]["user_id"]) == (original.key, "u-copy")
    assert copied["headers"]["clew-replay-from"].startswith(f"clew.events.v1/{original.partition}/{original.offset}@")
    assert "only the gateway writes" in _refused(mesh, "topic", "replay", "failed", "--to", "events", "--yes")


def test_a_pipe_that_has_enough_is_no_error(mesh: RunningMesh) -> None:
    """`clew topic read ... | head` ends well."""
    fail(mesh, *(nameless(properties={"filling": "x" * 5_000}) for _ in range(100)))
    read = f"{sys.executable} -m cli topic read failed --json --data-dir {mesh.data_dir}"
    done = subprocess.run(
        ["bash", "-c", f"{read} | head -1 >/dev/null; exit ${{PIPESTATUS[0]}}"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def _refused(mesh: RunningMesh, *arguments: str) -> str:
    """What a refused command says on standard error."""
    command = [sys.executable, "-m", "cli", *arguments, "--data-dir", str(mesh.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_what_was_redriven_is_known_to_a_mesh_that_starts_anew(tmp_path: Path) -> None:
    """The audit topic is the memory: neither the gateway's store nor its data directory is needed for it."""
    require("java")
    require("mvn")
    with running_kafka() as kafka:
        with running_mesh(tmp_path / "first", "--kafka", kafka.bootstrap) as mesh:
            ids = fail(mesh, nameless(), nameless())
            fix = ["--set", 'userId="u"', "--yes"]
            assert "1 accepted" in clew(mesh, "topic", "redrive", "--message-id", ids[0], *fix)
        with running_mesh(tmp_path / "second", "--kafka", kafka.bootstrap) as mesh:
            out = clew(mesh, "topic", "redrive", *fix)
            assert "1 ready, 1 redriven before" in out
            assert "sent: 1 accepted" in out
            assert {len(records) for records in mesh.events.wait(ids, quiet=0.5).values()} == {1}
