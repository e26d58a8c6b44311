"""The `clew` command as people use it: in a terminal of its own, judged by what it prints and how it exits."""

import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.health import kafka_problem
from mesh.ids import new_id
from tests.support.mesh import RunningMesh, eventually, running_mesh

_SECONDS = 60
_COMMANDS = ("up", "trace", "tail", "send", "source", "doctor", "demo")


def _clew(
    *arguments: object, text: str = "", seconds: float = _SECONDS, columns: int = 200
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )


def _on(mesh: RunningMesh, command: str, *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return _clew(command, *arguments, "--data-dir", mesh.data_dir, text=text)


@pytest.fixture(scope="module")
def own_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh that these tests may hurt."""
    with running_mesh(tmp_path_factory.mktemp("own") / "data") as running:
        yield running


# clew up


def test_endpoints_are_written_for_their_owner_only(own_mesh: RunningMesh) -> None:
    """Once all serve, endpoints.json says where and with which credentials, readable by its owner alone."""
    file = own_mesh.layout.endpoints
    content = json.loads(file.read_text())
    assert content.keys() == {"http", "kafka", "grpc", "write_key", "admin_token"}
    assert content["grpc"].keys() == {"gateway", "identity", "consent", "enrich"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(own_mesh.layout.secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE(own_mesh.data_dir.stat().st_mode) == 0o700
    for address in content["grpc"].values():
        assert not kafka_problem(address), f"nothing listens on {address}"


def test_json_prints_the_endpoints_as_one_line(own_mesh: RunningMesh) -> None:
    """`clew up --json` prints what endpoints.json holds, so that a script needs no file."""
    lines = [line for line in own_mesh.said().splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in lines] == [json.loads(own_mesh.layout.endpoints.read_text())]


def test_the_embedded_broker_says_what_it_is(own_mesh: RunningMesh) -> None:
    """Whoever starts without a Kafka is told that events are kept in memory only."""
    assert "in memory only" in own_mesh.said()


def test_a_second_mesh_on_the_same_directory_is_refused(own_mesh: RunningMesh) -> None:
    """`clew up` on a directory in use fails at once, names the process, and does the running mesh no harm."""
    second = _clew("up", "--http-port", 0, "--data-dir", own_mesh.data_dir)
    assert second.returncode == 1
    assert f"{own_mesh.data_dir} is in use by process {own_mesh.process.pid}" in second.stderr
    assert own_mesh.layout.endpoints.exists()
    own_mesh.wait_serving()


@pytest.mark.parametrize("name", ["identity", "consent", "enrich", "gateway"])
def test_a_crashed_process_is_restarted_where_it_was(own_mesh: RunningMesh, name: str) -> None:
    """A process that is killed comes back at the same address, and it is said what happened."""
    before, pid = own_mesh.layout.endpoints.read_text(), own_mesh.pid(name)
    os.kill(pid, signal.SIGKILL)
    said = eventually(own_mesh.said, lambda said: f"{name} serves again" in said, 30)
    assert f"{name} ended with status -9; restarting in 0.5 s" in said
    assert f"{name} serves again (restart 1)" in said
    assert own_mesh.pid(name) != pid
    assert own_mesh.layout.endpoints.read_text() == before
    own_mesh.wait_serving()


def test_a_crashed_embedded_broker_is_followed_to_its_new_address(own_mesh: RunningMesh) -> None:
    """The embedded broker comes back elsewhere and empty: that is said, written down, and events flow again."""
    before = json.loads(own_mesh.layout.endpoints.read_text())
    os.kill(own_mesh.pid("kafka"), signal.SIGKILL)
    said = eventually(own_mesh.said, lambda said: said.count("gateway serves again") > 1, 40)
    assert "kafka ended with status -9" in said
    assert "the embedded broker lost what it held" in said
    after = json.loads(own_mesh.layout.endpoints.read_text())
    assert after["kafka"] != before["kafka"]
    assert {**after, "kafka": ""} == {**before, "kafka": ""}
    own_mesh.wait_serving()
    message_id = new_id()
    assert _on(own_mesh, "send", "page", "--anonymous", message_id).returncode == 0
    shown = _on(own_mesh, "tail", "--from-beginning", "--anonymous", message_id, "--limit", 1)
    assert message_id in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_drains_everything(tmp_path: Path, number: signal.Signals) -> None:
    """One Ctrl-C or SIGTERM ends all processes in order; the exit status is 0 and endpoints.json is gone."""
    with running_mesh(tmp_path / "data") as mesh:
        pids = [mesh.pid(name) for name in ("kafka", "identity", "consent", "enrich", "gateway")]
        assert mesh.edge.post({"type": "page", "anonymousId": "a"}).status == 200
        mesh.process.send_signal(number)
        assert mesh.process.wait(30) == 0
        assert not mesh.layout.endpoints.exists()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert mesh.said().rstrip().endswith("stopped")
        assert not [line for name in ("gateway", "identity", "consent", "enrich") for line in _errors(mesh, name)]


def test_a_signal_during_the_start_stops_what_has_started(tmp_path: Path) -> None:
    """Nobody has to wait for a start that is no longer wanted, and nothing of it is left behind."""
    data_dir = tmp_path / "data"
    command = [sys.executable, "-m", "cli", "up", "--http-port", "0", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert eventually((data_dir / "logs" / "kafka.log").exists, bool)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "stopped before everything had started" in said
    assert not (data_dir / "endpoints.json").exists()
    assert _processes_of(data_dir) == []


def test_no_process_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    """Where `clew up` itself ends by SIGKILL, its processes drain and end: the next start finds nothing in use."""
    with running_mesh(tmp_path / "data") as mesh:
        assert len(_processes_of(mesh.data_dir)) == 5
        mesh.process.kill()
        mesh.process.wait(10)
        assert eventually(lambda: _processes_of(mesh.data_dir), lambda left: not left, 20) == []
        mesh.layout.endpoints.unlink()
    with running_mesh(tmp_path / "data") as mesh:
        assert mesh.edge.post({"type": "page", "anonymousId": "a"}).status == 200


def _processes_of(data_dir: Path) -> list[Path]:
    """The processes that were given the directory by their environment."""
    return [path for path in Path("/proc").glob("[0-9]*/environ") if str(data_dir) in _environment(path)]


def _environment(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _errors(mesh: RunningMesh, name: str) -> list[dict[str, Any]]:
    return [line for line in mesh.log(name) if line["level"] in {"error", "critical"}]


def test_a_mesh_keeps_what_it_knows_over_a_restart(tmp_path: Path) -> None:
    """The next start from the same directory has the same write key and knows the same people."""
    page = {"type": "identify", "anonymousId": "visitor", "userId": "user"}
    keys, profiles = set(), set()
    for _ in range(2):
        with running_mesh(tmp_path / "data") as mesh:
            message_id = new_id()
            assert mesh.edge.post({**page, "messageId": message_id}).status == 200
            profiles.add(mesh.events.one(message_id).message.profile_id)
            keys.add(mesh.endpoints.write_key)
            assert mesh.stop() == 0
    assert (len(keys), len(profiles)) == (1, 1)


def test_a_kafka_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With nothing at --kafka's address the mesh starts, says so, and refuses events with 503 and Retry-After."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        patience = {"CLEW_KAFKA_DELIVERY_SECONDS": "1.5", "CLEW_KAFKA_CLOSE_SECONDS": "1"}
        with running_mesh(tmp_path / "data", "--kafka", address, env=patience) as mesh:
            assert f"Kafka: {address} does not answer" in eventually(mesh.said, lambda said: "Kafka:" in said)
            answer = mesh.edge.post({"type": "page", "anonymousId": "a"})
            assert (answer.status, answer.json["code"]) == (503, "BUS_UNAVAILABLE")
            assert 1 <= int(answer.headers["retry-after"]) <= 300


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--kafka", "nonsense"], "'nonsense' is no HOST:PORT"),
        (["--http-port", "70000"], "--http-port"),
        (["--data-dir", "/dev/null/data"], "/dev/null/data"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_an_option_that_cannot_be_is_refused(tmp_path: Path, options: list[str], problem: str) -> None:
    """A wrong option ends `clew up` with a status above zero and a message that names it; nothing is started."""
    done = _clew("up", "--data-dir", tmp_path / "data", *options)
    assert done.returncode in {1, 2}
    assert problem in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """An HTTP port that another program has ends `clew up` with the reason, and no process is left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _clew("up", "--data-dir", tmp_path / "data", "--http-port", port)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be bound" in done.stderr
    assert not (tmp_path / "data" / "endpoints.json").exists()


# clew send, tail, trace, doctor


def test_send_prints_the_verdict(mesh: RunningMesh) -> None:
    """One event from flags is accepted, and its verdict printed as JSON."""
    user = new_id()
    done = _on(mesh, "send", "track", "Order Completed", "--user", user, "--properties", '{"total": 12.5}')
    assert (done.returncode, done.stderr) == (0, "")
    (event,) = json.loads(done.stdout)["events"]
    assert event["verdict"] == "accepted"
    message = mesh.events.one(event["messageId"]).message
    assert (message.user_id, message.event, message.properties_json) == (user, "Order Completed", '{"total": 12.5}')


def test_send_takes_a_token(mesh: RunningMesh) -> None:
    """With a token the event is verified."""
    user = new_id()
    done = _on(mesh, "send", "page", "--user", user, "--token", mesh.token(user))
    (event,) = json.loads(done.stdout)["events"]
    assert mesh.events.one(event["messageId"]).message.assurance == 3


@pytest.mark.parametrize("shape", ["one", "lines", "batch", "stdin"])
def test_send_takes_a_file(mesh: RunningMesh, tmp_path: Path, shape: str) -> None:
    """A file may hold one event, an event a line, or a batch; `-` reads them from standard input."""
    events = [
        {"type": "page", "anonymousId": new_id(), "messageId": new_id()} for _ in range(1 if shape == "one" else 3)
    ]
    lines = "\n".join(json.dumps(event) for event in events)
    content = json.dumps({"batch": events}) if shape == "batch" else lines
    file = tmp_path / "events"
    file.write_text(content)
    done = _on(mesh, "send", "--file", "-" if shape == "stdin" else file, text=content)
    assert done.returncode == 0, done.stderr
    assert [event["verdict"] for event in json.loads(done.stdout)["events"]] == ["accepted"] * len(events)
    mesh.events.wait([event["messageId"] for event in events])


def test_send_fails_when_an_event_is_rejected(mesh: RunningMesh) -> None:
    """A rejected event, a refused request and properties that are no JSON each have an exit status above zero."""
    assert _on(mesh, "send", "shrug", "--user", "u").returncode == 1
    refused = _on(mesh, "send", "page", "--user", "u", "--write-key", "nobody's")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(
        r"clew send: the write key belongs to no source, .* \(UNKNOWN_WRITE_KEY, trace [0-9a-f]{32}\)\n", refused.stderr
    )
    bad = _on(mesh, "send", "track", "E", "--user", "u", "--properties", "{")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "--properties is no JSON" in bad.stderr
    both = _on(mesh, "send", "page", "--file", "/dev/null")
    assert (both.returncode, both.stdout) == (2, "")
    assert "TYPE" in both.stderr
    missing = _on(mesh, "send", "--file", "/nowhere/at/all")
    assert (missing.returncode, missing.stdout) == (2, "")


def test_tail_shows_what_the_filters_ask_for(mesh: RunningMesh) -> None:
    """From the beginning, one visitor's events only, as lines or as JSON with key and headers; then it ends."""
    visitor, ids = new_id(), [new_id(), new_id()]
    mesh.edge.post(
        *(
            {"type": kind, "anonymousId": visitor, "messageId": id_}
            for kind, id_ in zip(("page", "screen"), ids, strict=True)
        )
    )
    lines = _on(mesh, "tail", "--from-beginning", "--anonymous", visitor, "--limit", 2)
    assert lines.returncode == 0, lines.stderr
    assert [line.split()[0] for line in lines.stdout.splitlines()] == ["page", "screen"]
    found = _on(mesh, "tail", "--from-beginning", "--message", ids[1], "--type", "screen", "--limit", 1, "--json")
    (record,) = [json.loads(line) for line in found.stdout.splitlines()]
    assert record["value"]["message_id"] == ids[1]
    assert record["key"] == record["value"]["profile_id"]
    assert record["headers"]["clew-message-id"] == ids[1]


def test_tail_shows_failed_events(mesh: RunningMesh) -> None:
    """`--failed` shows the failed topic only, with reason and detail."""
    message_id = new_id()
    mesh.edge.post({"type": "shrug", "anonymousId": "a", "messageId": message_id})
    done = _on(mesh, "tail", "--failed", "--from-beginning", "--message", message_id, "--limit", 1)
    assert re.match(rf"failed +unknown_type +source=default message={message_id} ", done.stdout)


def test_tail_follows_until_it_is_interrupted(mesh: RunningMesh, tmp_path: Path) -> None:
    """Without a limit it shows events as they come; Ctrl-C ends it with status 0."""
    visitor, output = new_id(), tmp_path / "tail"
    command = [sys.executable, "-m", "cli", "tail", "--data-dir", str(mesh.data_dir), "--anonymous", visitor]
    with output.open("w") as sink:
        tail = subprocess.Popen(command, stdout=sink)
    try:
        # It begins with what comes after it has started, which nobody is told: so send until one is seen.
        def send_and_look() -> str:
            mesh.edge.post({"type": "page", "anonymousId": visitor})
            time.sleep(0.2)
            return output.read_text()

        assert visitor in eventually(send_and_look, lambda shown: visitor in shown, 60)
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 0
    finally:
        tail.kill()
        tail.wait()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            (),
            "waiting for new events, failed events and merges; --from-beginning shows what is there; Ctrl-C ends",
        ),
        (
            ("--from-beginning",),
            "showing the events, failed events and merges that are there, then new ones; Ctrl-C ends",
        ),
    ],
)
def test_tail_says_on_a_terminal_what_it_waits_for(mesh: RunningMesh, options: tuple[str, ...], words: str) -> None:
    """Once, on standard error, at once; what is piped elsewhere stays as it is."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "cli", "tail", "--data-dir", str(mesh.data_dir), "--user", new_id(), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower) as tail:
        os.close(follower)
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(leader, 1_000)
        tail.send_signal(signal.SIGINT)
        shown, _ = tail.communicate(timeout=20)
    os.close(leader)
    assert (tail.returncode, shown, said.decode().strip()) == (0, b"", words)


def test_trace_draws_the_waterfall_of_a_request(mesh: RunningMesh) -> None:
    """`clew trace ID` shows every process's spans of a request; `last` shows the latest."""
    trace_id = os.urandom(16).hex()
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    mesh.edge.post({"type": "page", "anonymousId": new_id()}, headers=headers)
    mesh.trace(trace_id, until=9)
    done = _on(mesh, "trace", trace_id)
    assert done.returncode == 0, done.stderr
    assert f"trace {trace_id}" in done.stdout
    assert "4 processes" in done.stdout
    for service in ("gateway", "identity", "consent", "enrich"):
        assert re.search(rf"^{service} ", done.stdout, re.MULTILINE), done.stdout
    assert "publish" in done.stdout
    last = _on(mesh, "trace", "last")
    assert (last.returncode, f"trace {trace_id}" in last.stdout) == (0, True)


def test_trace_of_nothing_fails(mesh: RunningMesh) -> None:
    """A trace that is not there is said on standard error, exit status 1."""
    done = _on(mesh, "trace", "0" * 31 + "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no spans of trace" in done.stderr
    wrong = _on(mesh, "trace", "xyz")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'xyz' is no trace id (32 hex digits), nor \"last\"" in wrong.stderr


def test_the_ledger_tells_a_misspelt_source_from_a_quiet_one(mesh: RunningMesh) -> None:
    """Nothing was counted for either; only one that does not exist has exit status 1, and nobody reads `balanced`."""
    quiet = new_id()
    assert _on(mesh, "source", "create", quiet, "--no-key").returncode == 0
    done = _on(mesh, "ledger", "--source", quiet)
    assert (done.returncode, done.stderr) == (0, f"clew ledger: nothing was counted for source '{quiet}'\n")
    misspelt = _on(mesh, "ledger", "--source", f"{quiet}x", "--since", "1h")
    assert (misspelt.returncode, misspelt.stdout) == (1, "")
    assert f"nothing was counted for source '{quiet}x' in that time; there is no source of that name" in misspelt.stderr


def test_doctor_finds_a_healthy_mesh_healthy(mesh: RunningMesh) -> None:
    """Everything installed and reachable: nothing is bad, exit status 0."""
    done = _on(mesh, "doctor")
    assert done.returncode == 0, done.stdout
    assert not re.search(r"^bad ", done.stdout, re.MULTILINE)
    for what in ("Python", "identity", "consent", "enrich", "gateway", "HTTP edge", "Kafka"):
        assert re.search(rf"^ok +{what} ", done.stdout, re.MULTILINE), done.stdout


def test_doctor_says_what_is_wrong_and_what_to_do(mesh: RunningMesh) -> None:
    """A service that does not answer and secrets that others can read are bad; each with advice, exit status 1."""
    secrets = mesh.layout.secrets
    secrets.chmod(0o644)
    try:
        with mesh.stopped("enrich"):
            done = _on(mesh, "doctor")
    finally:
        secrets.chmod(0o600)
    assert done.returncode == 1
    assert re.search(r"^bad +enrich .*does not serve .*enrich\.log", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^bad +secrets +readable by others +chmod 600 ", done.stdout, re.MULTILINE), done.stdout
    mesh.wait_serving()


@pytest.mark.parametrize("command", [("send", "page"), ("tail",), ("trace", "last")])
def test_commands_say_that_nothing_runs(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Where no mesh runs, each command says so on standard error and exits with status 1."""
    done = _clew(*command, "--data-dir", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_without_a_mesh_is_content(tmp_path: Path) -> None:
    """That nothing runs is a note with advice, not a fault."""
    done = _clew("doctor", "--data-dir", tmp_path / "none")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^note +mesh +not running +nothing runs from ", done.stdout, re.MULTILINE), done.stdout
    assert "start `clew up`" in " ".join(done.stdout.split())


# clew --help and the demo


def test_help_names_every_command() -> None:
    """`clew --help` lists all commands with what they do; each has help of its own."""
    done = _clew("--help")
    assert done.returncode == 0
    for command in _COMMANDS:
        assert re.search(rf"\b{command} +[A-Z]", done.stdout), f"{command} is not explained"
    assert "--from-beginning" in _clew("tail", "--help").stdout


def test_the_demo_shows_what_it_promises(kafka_options: list[str]) -> None:
    """`clew demo` drives a mesh with unmodified SDKs, shows every chapter, stops cleanly and leaves nothing."""
    done = _clew("demo", *kafka_options, seconds=100, columns=80)
    assert (done.returncode, done.stderr) == (0, "")
    for chapter in (
        "An anonymous visitor",
        "The visitor signs up",
        "The login is proven",
        "A visitor refuses",
        "A broken event",
        "What is on Kafka",
        "The last request's trace",
    ):
        assert chapter in done.stdout
    assert "verified" in done.stdout
    # Whole, also where a pipe says that it has 80 columns.
    assert "…" not in done.stdout
    assert "Thread Picked Up  -" in done.stdout
    assert "message_count=" in done.stdout
    assert "verdict filtered" in done.stdout
    assert done.stdout.rstrip().endswith("stopped cleanly")
