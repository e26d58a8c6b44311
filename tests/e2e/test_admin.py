"""Administration of the edge, end to end: the `clew` command, a running mesh, and requests over HTTP."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesh.ids import new_id
from tests.support.mesh import RunningMesh, eventually, running_mesh

_SECONDS = 60


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh with the embedded broker: nothing here is about Kafka."""
    with running_mesh(tmp_path_factory.mktemp("admin") / "data") as running:
        yield running


def run(mesh: RunningMesh, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A `clew` command on the mesh."""
    command = [sys.executable, "-m", "cli", *map(str, arguments), "--data-dir", str(mesh.data_dir)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, env={**os.environ, "COLUMNS": "200"}
    )


def ask(mesh: RunningMesh, *arguments: object) -> Any:
    """A command that succeeds; its JSON."""
    done = run(mesh, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(mesh: RunningMesh, *arguments: object) -> tuple[int, str]:
    """A command that fails; its exit status and the last thing it said. Nothing is on standard output."""
    done = run(mesh, *arguments)
    assert done.stdout == "", done.stdout
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def page(**members: object) -> dict[str, object]:
    """A page call."""
    return {"type": "page", "anonymousId": new_id(), "messageId": new_id(), **members}


@contextmanager
def watching(mesh: RunningMesh, folder: Path, *options: object) -> Iterator[Path]:
    """`clew tail --edge`, from when it says that it watches until Ctrl-C, which it heeds; the file with its output."""
    output = folder / "tail"
    command = [sys.executable, "-m", "cli", "tail", "--edge", *map(str, options), "--data-dir", str(mesh.data_dir)]
    with output.open("w") as sink, subprocess.Popen(command, stdout=sink, stderr=subprocess.PIPE, text=True) as tail:
        try:
            assert tail.stderr is not None
            assert "watching" in tail.stderr.readline()
            yield output
            tail.send_signal(signal.SIGINT)
            assert tail.wait(10) == 0
        finally:
            tail.kill()


def test_a_source_from_its_making_to_the_end_of_its_keys(mesh: RunningMesh) -> None:
    """Made by the command, it sends; its key is rotated with an overlap, and revoked: then 401, at once."""
    name = new_id()
    made = ask(mesh, "source", "create", name, "--rate", "500", "--purpose", "analytics", "--purpose", "essential")
    first = made["secret"]
    assert made["source"]["limits"] == {"events_per_second": 500.0, "burst": 500}
    event = page()
    assert mesh.edge.post(event, key=first).verdicts == ["accepted"]
    record = mesh.events.one(str(event["messageId"])).message
    assert (record.workspace, record.source) == ("main", name)

    rotated = ask(mesh, "source", "key", "rotate", name, first[:10], "--overlap", "1h")
    second = rotated["secret"]
    assert [mesh.edge.post(page(), key=key).status for key in (first, second)] == [200, 200]
    assert ask(mesh, "source", "key", "revoke", name, first[:10])["write_key"]["state"] == "WRITE_KEY_STATE_REVOKED"
    refused = mesh.edge.post(page(), key=first)
    assert (refused.status, refused.json["code"]) == (401, "UNKNOWN_WRITE_KEY")
    assert mesh.edge.post(page(), key=second).status == 200

    shown = ask(mesh, "source", "show", name)["source"]
    assert [key["state"] for key in shown["write_keys"]] == ["WRITE_KEY_STATE_REVOKED", "WRITE_KEY_STATE_ACTIVE"]
    assert "last_use_time" in shown["write_keys"][1]
    kinds = [change["kind"] for change in ask(mesh, "source", "history", name)["changes"]]
    assert [kind.removeprefix("SOURCE_CHANGE_KIND_") for kind in kinds] == [
        "KEY_REVOKED",
        "KEY_EXPIRING",
        "KEY_CREATED",
        "KEY_CREATED",
        "CREATED",
    ]
    assert run(mesh, "source", "delete", name, "--yes").returncode == 0
    assert mesh.edge.post(page(), key=second).status == 401


def test_a_connection_that_is_open_is_refused_as_well(mesh: RunningMesh) -> None:
    """A revoked key is no better for having been let in a moment ago on the same connection."""
    made = ask(mesh, "source", "create", new_id())
    source, key = made["source"], made["source"]["write_keys"][0]
    connection = http.client.HTTPConnection(urlsplit(mesh.endpoints.http).netloc, timeout=10)

    def send() -> int:
        connection.request("POST", "/v1/page", json.dumps(page()), {"X-Write-Key": made["secret"]})
        response = connection.getresponse()
        response.read()
        return response.status

    assert send() == 200
    socket = connection.sock
    ask(mesh, "source", "key", "revoke", source["name"], key["id"])
    assert send() == 401
    assert connection.sock is socket
    connection.close()


def test_everything_outlives_a_crash_of_the_gateway(mesh: RunningMesh) -> None:
    """Sources and keys that were made before hold after, and what was revoked stays so."""
    name = new_id()
    kept = ask(mesh, "source", "create", name)["secret"]
    revoked = ask(mesh, "source", "key", "create", name)
    ask(mesh, "source", "key", "revoke", name, revoked["write_key"]["id"])
    os.kill(mesh.pid("gateway"), signal.SIGKILL)
    assert "gateway serves again" in eventually(mesh.said, lambda said: "gateway serves again" in said, 30)
    assert mesh.edge.post(page(), key=kept).status == 200
    assert mesh.edge.post(page(), key=revoked["secret"]).status == 401


def test_origins_of_a_source_are_enforced(mesh: RunningMesh) -> None:
    """Only its own pages may send with the key; a server, which says no origin, always may."""
    name = new_id()
    key = ask(mesh, "source", "create", name, "--origin", "https://shop.example")["secret"]

    def status(origin: str) -> int:
        return mesh.edge.post(page(), key=key, headers={"Origin": origin} if origin else {}).status

    assert (status("https://shop.example"), status("https://other.example"), status("")) == (200, 403, 200)
    ask(mesh, "source", "update", name, "--origin", "*")
    assert status("https://other.example") == 200
    ask(mesh, "source", "update", name, "--no-pages")
    assert (status("https://shop.example"), status("")) == (403, 200)


def test_a_disabled_source_is_refused_until_it_is_enabled(mesh: RunningMesh) -> None:
    """At once, both ways."""
    name = new_id()
    key = ask(mesh, "source", "create", name)["secret"]
    ask(mesh, "source", "update", name, "--disable")
    assert mesh.edge.post(page(), key=key).status == 401
    ask(mesh, "source", "update", name, "--enable")
    assert mesh.edge.post(page(), key=key).status == 200


def test_sources_are_listed_as_a_table(mesh: RunningMesh) -> None:
    """In columns, each source on a line of its own; that of the file says where it stands."""
    name = new_id()
    ask(mesh, "source", "create", name, "--no-key", "--workspace", "other")
    done = run(mesh, "source", "list")
    heading, *lines = done.stdout.splitlines()
    assert heading.split("  ")[0] == "workspace"
    rows = {line.split()[1]: line for line in lines}
    assert rows["default"].endswith("file")
    assert rows[name].split()[0] == "other"
    assert "never" in rows[name]
    assert [source["name"] for source in ask(mesh, "source", "list", "--workspace", "other")["sources"]] == [name]


def test_a_new_key_is_shown_once(mesh: RunningMesh) -> None:
    """When it is made, with a word to keep it; nothing that is read later shows it."""
    name = new_id()
    made = run(mesh, "source", "create", name)
    (key,) = [line.split()[2] for line in made.stdout.splitlines() if line.startswith("write key")]
    assert "keep it" in made.stdout
    assert key not in run(mesh, "source", "show", name).stdout
    assert key[:10] in run(mesh, "source", "show", name).stdout


def test_what_is_refused_says_why_and_exits_with_one(mesh: RunningMesh) -> None:
    """On standard error, with the reason; what is wrong with an option exits with two."""
    name = new_id()
    assert refusal(mesh, "source", "show", name) == (
        1,
        "clew source: SOURCE_NOT_FOUND: the workspace has no source of that name\n",
    )
    status, said = refusal(mesh, "source", "update", "default", "--disable")
    assert (status, "sources file" in said) == (1, True)
    status, said = refusal(mesh, "source", "create", "a/b")
    assert (status, "INVALID_ARGUMENT" in said) == (1, True)
    ask(mesh, "source", "create", name)
    for wrong in (
        ("source", "update", name),
        ("source", "update", name, "--burst", 5),
        ("source", "update", name, "--purpose", "fun"),
        ("source", "update", name, "--no-pages", "--origin", "https://a.example"),
        ("source", "key", "create", name, "--lifetime", "soon"),
        ("source", "delete", name),
        ("tail", "--verdict", "accepted"),
        ("tail", "--edge", "--verdict", "odd"),
        ("tail", "--edge", "--failed"),
    ):
        assert refusal(mesh, *wrong)[0] == 2, wrong


@pytest.mark.parametrize("command", [("source", "list"), ("source", "create", "x"), ("tail", "--edge")])
def test_commands_say_that_nothing_runs(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Where no mesh runs, each says so on standard error and exits with status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *command, "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path) in done.stderr


def test_tail_edge_shows_the_way_of_each_event_and_hides_the_person(mesh: RunningMesh, tmp_path: Path) -> None:
    """Verdicts of every stage and the trace; identifiers of people and content as their category only."""
    user, made = f"{new_id()}@example.com", ask(mesh, "source", "create", new_id())
    name, key = made["source"]["name"], made["secret"]
    good, bad = page(userId=user, properties={"mail": user}), {"type": "shrug", "messageId": new_id(), "userId": user}
    with watching(mesh, tmp_path, "--source", name, "--json") as output:
        trace_id = os.urandom(16).hex()
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        assert mesh.edge.post(good, bad, key=key, headers=headers).verdicts == ["accepted", "rejected"]
        mesh.edge.post(page())
        text = eventually(output.read_text, lambda text: text.count("\n") >= 2)
    accepted, rejected = map(json.loads, text.splitlines())
    assert user not in text
    assert {accepted["trace_id"], rejected["trace_id"]} == {trace_id}
    assert (accepted["message_id"], accepted["verdict"]) == (good["messageId"], "VERDICT_ACCEPTED")
    assert [stage["status"] for stage in accepted["stages"]] == ["STAGE_STATUS_PASSED"] * 6
    assert accepted["event"]["user_id"] == "[direct_id]"
    assert accepted["event"]["properties_json"] == "[content]"
    assert accepted["event"]["profile_id"] == mesh.events.one(str(good["messageId"])).message.profile_id
    assert (rejected["verdict"], rejected["stages"][-1]["reason"]) == (
        "VERDICT_REJECTED",
        "FAILURE_REASON_UNKNOWN_TYPE",
    )


def test_tail_edge_shows_refused_requests_to_people(mesh: RunningMesh, tmp_path: Path) -> None:
    """A line with where it ended and why, below it what to do; a key that is wrong is not shown."""
    with watching(mesh, tmp_path, "--verdict", "unanswered") as output:
        mesh.edge.post(page(), key="a-wrong-key")
        text = eventually(output.read_text, lambda text: "trace=" in text)
    assert "unanswered" in text
    assert "admit failed (unknown_write_key)" in text
    assert "see the source's keys" in text
    assert "a-wrong-key" not in text


def test_tail_edge_ends_when_the_gateway_stops(tmp_path: Path) -> None:
    """With status 1 and a word why; and the mesh's stop does not wait for who watches."""
    with running_mesh(tmp_path / "data") as own:
        command = [sys.executable, "-m", "cli", "tail", "--edge", "--data-dir", str(own.data_dir)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
            assert tail.stderr is not None
            assert "watching" in tail.stderr.readline()
            assert own.stop() == 0
            assert tail.wait(10) == 1
            assert "DRAINING" in tail.stderr.read()


def test_sources_may_be_kept_in_postgres(postgres_url: str, tmp_path: Path) -> None:
    """A mesh that knows nothing but the database has the sources that another one made there."""
    env = {"CLEW_DATABASE": postgres_url}
    with running_mesh(tmp_path / "first", env=env) as first:
        key = ask(first, "source", "create", "shared")["secret"]
        assert first.edge.post(page(), key=key).status == 200
        revoked = ask(first, "source", "key", "create", "shared")
        ask(first, "source", "key", "revoke", "shared", revoked["write_key"]["id"])
        assert not (first.data_dir / "sources.db").exists()
    with running_mesh(tmp_path / "second", env=env) as second:
        assert second.edge.post(page(), key=key).status == 200
        assert second.edge.post(page(), key=revoked["secret"]).status == 401
        # Noted when the first gateway stopped.
        assert "last_use_time" in ask(second, "source", "show", "shared")["source"]["write_keys"][0]
