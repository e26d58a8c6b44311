"""A consumer written only from docs/TOPICS.md works: the page's own code, on a real Kafka, with real registries."""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.e2e.sdk.node import node_modules
from tests.e2e.topics.page import PAGE, ROOT, blocks, without_installing, write_blocks
from tests.support.apicurio import running_apicurio
from tests.support.mesh import RunningMesh, running_mesh
from tests.support.requirements import missing, require
from tests.support.topics import EVENTS, FAILED, PROFILES, TopicReader
from tools.compile_topics import declared_topics
from tools.kafka.cluster import running_kafka

HERE = Path(__file__).parent
COUNT = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Maven may have to resolve a compiler first.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """A real Apache Kafka."""
    require("java")
    require("mvn")
    with running_kafka() as cluster:
        yield cluster.bootstrap


@pytest.fixture(scope="module")
def mesh(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh on it that has taken some events."""
    with running_mesh(tmp_path_factory.mktemp("mesh") / "data", "--kafka", kafka) as running:
        send(running)
        yield running


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Python consumer and the code that the page's command generates for it."""
    folder = tmp_path_factory.mktemp("python")
    for name in ("proto", "third_party"):
        (folder / name).symlink_to(ROOT / name)
    shell(without_installing(blocks()["generate"]), folder)
    write_blocks(folder, "consumer/consumer.py")
    return folder / "consumer"


def send(mesh: RunningMesh) -> None:
    """Twenty events of four people, one that is refused, and a login that merges a visitor into a user."""
    for number in range(COUNT):
        body = {
            "event": "Order Completed",
            "messageId": f"m-{number}",
            "userId": f"u-{number % 4}",
            "properties": {"n": 2**53 + number, "name": "Zoë"},
        }
        assert mesh.edge.post({"type": "track", **body}).verdicts == ["accepted"]
    assert mesh.edge.post({"type": "track", "event": "Nobody", "messageId": "refused"}).verdicts == ["rejected"]
    for event in ({"type": "page", "anonymousId": "a-1"}, {"type": "identify", "anonymousId": "a-1", "userId": "u-1"}):
        assert mesh.edge.post(event).verdicts == ["accepted"]


def shell(script: str, folder: Path, **env: str) -> None:
    """Run a shell block of the page."""
    environment = {**os.environ, **env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def running(command: list[str], folder: Path, **env: str) -> Iterator["queue.Queue[str]"]:
    """A consumer, and the lines that it prints; its end, which should not come, is an empty line."""
    environment = {**os.environ, **env}
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
        )
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                # Maven resets the terminal's colours, whether there is one or not.
                if printed := _COLOUR.sub("", line).strip():
                    lines.put(printed)
        lines.put("")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(30)
        reader.join(30)


def check(lines: "queue.Queue[str]", folder: Path, mesh: RunningMesh, seconds: float) -> None:
    """The consumer prints what was sent: each event once, under its person's key and in order, with its trace."""
    deadline = time.monotonic() + seconds
    seen: dict[str, dict[str, object]] = {}
    while len(seen) < COUNT + 2:
        try:
            line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            line = ""
        assert line, f"after {len(seen)} events:\n{(folder / 'errors').read_text()[-3000:]}"
        event = json.loads(line)
        assert event["message_id"] not in seen
        seen[event["message_id"]] = event
    ordered = [event for name, event in seen.items() if name.startswith("m-")]
    assert len(ordered) == COUNT
    for person in range(4):
        theirs = [event for event in ordered if int(str(event["message_id"])[2:]) % 4 == person]
        assert len({event["profile_id"] for event in theirs}) == 1
        numbers = [event["properties"]["n"] for event in theirs]  # type: ignore[index]
        # JavaScript's numbers end at 2^53; the JSON text in the record holds every digit.
        assert numbers == sorted(numbers)
    assert len({event["profile_id"] for event in ordered}) == 4
    assert ordered[0]["properties"]["name"] == "Zoë"  # type: ignore[index]
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", str(event["trace"])) for event in ordered)
    assert mesh.process.poll() is None


def test_the_python_consumer_works(mesh: RunningMesh, generated: Path) -> None:
    """Confluent's deserializer, the gateway's registry, generated code by the page's command."""
    command = [sys.executable, str(generated / "consumer.py")]
    env = {"KAFKA": mesh.endpoints.kafka, "REGISTRY": f"{mesh.endpoints.http}/registry", "PYTHONPATH": str(generated)}
    with running(command, generated, **env) as lines:
        check(lines, generated, mesh, 60)


def test_the_node_consumer_works(mesh: RunningMesh, tmp_path: Path) -> None:
    """KafkaJS and its registry client, of the versions that the page installs."""
    node = require("node")
    (tmp_path / "node_modules").symlink_to(node_modules(HERE))
    write_blocks(tmp_path, "consumer.cjs")
    env = {"KAFKA": mesh.endpoints.kafka, "REGISTRY": f"{mesh.endpoints.http}/registry"}
    with running([str(node), "consumer.cjs"], tmp_path, **env) as lines:
        check(lines, tmp_path, mesh, 60)


def test_the_java_consumer_works(mesh: RunningMesh, tmp_path: Path) -> None:
    """Kafka's own client and protobuf-java, built by Maven from the page's pom."""
    maven = str(require("mvn"))
    shell(blocks()["copy"], tmp_path, CLEW=str(ROOT))
    write_blocks(tmp_path, "pom.xml", "src/main/java/EventPrinter.java")
    built = subprocess.run(
        [maven, "-B", "-q", "compile"], cwd=tmp_path, capture_output=True, text=True, timeout=800, check=False
    )
    if "Could not transfer artifact" in built.stdout or "Could not find artifact" in built.stdout:
        missing(f"Maven could not resolve the consumer's dependencies: {built.stdout[-1000:]}")
    assert built.returncode == 0, built.stdout
    env = {"KAFKA": mesh.endpoints.kafka}
    with running([maven, "-B", "-q", "exec:java"], tmp_path, **env) as lines:
        check(lines, tmp_path, mesh, 120)


def test_a_registry_of_ones_own_serves_the_same_consumer(
    generated: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Deployed to a real registry that is not ours: records carry its ids, and the page's consumer reads by them.

    The gateway does not start before the schemas are deployed, and its own registry sends readers to the other one.
    """
    require("mvn")
    clew = [sys.executable, "-m", "cli"]
    with running_apicurio() as registry, running_kafka() as kafka:
        # So that ids are not ours by chance: by them a reader would find another schema in ours.
        with SchemaRegistryClient.new_client({"url": registry.url}) as client:
            client.register_schema("other", Schema('syntax = "proto3"; message Other {}', "PROTOBUF"))
        env = {"CLEW_SCHEMA_REGISTRY": registry.url}
        options = ("--kafka", kafka.bootstrap)
        with (
            pytest.raises(AssertionError, match="clew up did not come up"),
            running_mesh(tmp_path / "refused", *options, env=env),
        ):
            pytest.fail("it came up")
        log = (tmp_path / "refused" / "logs" / "gateway.log").read_text()
        assert (
            f"is not registered as this version of clew has it: run `clew schemas apply --registry {registry.url}`"
            in log
        )

        done = subprocess.run([*clew, "schemas", "apply"], env={**os.environ, **env}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        with running_mesh(tmp_path / "data", *options, env=env) as mesh:
            send(mesh)
            answer = mesh.edge.get("/registry/subjects", {})
            assert (answer.status, registry.url in answer.json["message"]) == (404, True)
            consumer = {"KAFKA": kafka.bootstrap, "REGISTRY": registry.url, "PYTHONPATH": str(generated)}
            with running([sys.executable, str(generated / "consumer.py")], generated, **consumer) as lines:
                check(lines, generated, mesh, 60)


def test_every_record_has_the_headers_that_are_described(mesh: RunningMesh) -> None:
    """No more and no fewer, on each topic, and the key is the field that is named."""
    fields = {topic.name: topic for topic in declared_topics().topics}
    for name in (EVENTS, FAILED, PROFILES):
        reader = TopicReader(mesh.endpoints.kafka, f"{mesh.endpoints.http}/registry", name)
        records = reader.now()
        reader.close()
        assert records
        for record in records:
            assert set(record.headers) == set(fields[name].headers)
            assert record.key == getattr(record.message, fields[name].key)


def test_a_start_has_made_the_topics_as_declared(mesh: RunningMesh) -> None:
    """`clew up --kafka` creates them before a broker does so in its own way at the first record."""
    there = AdminClient({"bootstrap.servers": mesh.endpoints.kafka}).list_topics(timeout=10).topics
    for topic in declared_topics().topics:
        assert len(there[topic.name].partitions) == topic.partitions
    assert f"topics created: {EVENTS}, {FAILED}, {PROFILES}" in mesh.said()


def test_the_page_says_what_is_declared() -> None:
    """Its tables name each topic with key, value and partitions, and each header with its topics."""
    page = PAGE.read_text()
    declaration = declared_topics()
    for topic in declaration.topics:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{topic.name}` |"))
        assert f"| `{topic.key}` | `{topic.value}` | {topic.partitions} |" in row
        kept = "retention.ms" if "retention.ms" in topic.config else "min.compaction.lag.ms"
        assert f"{int(topic.config[kept]) // 86_400_000}d" in row
    for name, text in declaration.headers.items():
        on = [topic.name for topic in declaration.topics if name in topic.headers]
        where = "all" if len(on) == len(declaration.topics) else ", ".join(f"`{each}`" for each in on)
        assert f"| `{name}` | {where} | {text} |" in page


def test_the_page_installs_what_is_tested() -> None:
    """The same packages of the same major versions as the lock file has."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    installed = dict(part.rsplit("@", 1) for part in blocks()["install"].split()[2:])
    assert set(installed) == set(wanted) - {"@asyncapi/parser"}
    assert all(f"{wanted[name]}.".startswith(f"{version}.") for name, version in installed.items())
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert not any("resolved" in package for package in lock["packages"].values())


def test_the_asyncapi_document_is_valid(mesh: RunningMesh, tmp_path: Path) -> None:
    """By the initiative's own parser, as the gateway serves it: no error, no warning, every topic a channel."""
    node = require("node")
    answer = mesh.edge.get("/asyncapi.json", {})
    assert answer.status == 200
    (tmp_path / "asyncapi.json").write_bytes(answer.body)
    script = shutil.copy(HERE / "asyncapi.cjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules(HERE))
    done = subprocess.run([str(node), script], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert [problem for problem in said["diagnostics"] if problem["severity"] < 2] == []
    assert said["channels"] == [topic.name for topic in declared_topics().topics]
