"""`clew topics` on a real Apache Kafka: plan, apply, and what is never done unasked."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # imported for us, as documented
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from typer.testing import CliRunner, Result

from cli.main import app
from cli.topics import TopicsNotMade, create_missing
from mesh.bus.mock_cluster import MockCluster
from tests.support.requirements import require
from tools.kafka.cluster import running_kafka

NAMES = ["clew.events.v1", "clew.events.failed.v1", "clew.profiles.v1", "clew.audit.v1"]
OK, FAILED, USAGE, PENDING = 0, 1, 2, 3


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """A cluster of one broker."""
    require("java")
    require("mvn")
    with running_kafka(quick_start=True) as cluster:
        yield cluster.bootstrap


@pytest.fixture
def admin(kafka: str) -> Iterator[AdminClient]:
    """Kafka's own admin client on a cluster without topics."""
    client = AdminClient({"bootstrap.servers": kafka})
    yield client
    there = [name for name in client.list_topics(timeout=10).topics if name.startswith("clew.")]
    for answer in (client.delete_topics(there, operation_timeout=30) if there else {}).values():
        answer.result(30)
    while any(name.startswith("clew.") for name in client.list_topics(timeout=10).topics):
        time.sleep(0.1)


def clew(*arguments: str, **env: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, ["topics", *arguments], env=env)


def config(admin: AdminClient, topic: str) -> dict[str, str]:
    """A topic's configuration as the brokers have it."""
    asked = ConfigResource(ResourceType.TOPIC, topic)
    return {name: entry.value for name, entry in admin.describe_configs([asked])[asked].result(10).items()}


def partitions(admin: AdminClient, topic: str, expected: int) -> int:
    """How many it has, or comes to have: a broker hears of a change a moment after the controller has made it."""
    deadline = time.monotonic() + 10
    while True:
        found = admin.list_topics(timeout=10).topics.get(topic)
        count = len(found.partitions) if found else 0
        if count == expected or time.monotonic() > deadline:
            return count
        time.sleep(0.1)


def eventually(status: int, *arguments: str) -> Result:
    """Run a command until every broker that may be asked has heard of what was done."""
    deadline = time.monotonic() + 10
    while True:
        result = clew(*arguments)
        if result.exit_code == status or time.monotonic() > deadline:
            return result
        time.sleep(0.1)


def make(admin: AdminClient, topic: str, count: int, **settings: str) -> None:
    """A topic as somebody else has made it."""
    options = {name.replace("_", "."): value for name, value in settings.items()}
    admin.create_topics([NewTopic(topic, count, 1, config=options)], operation_timeout=30)[topic].result(30)
    assert partitions(admin, topic, count) == count


def test_apply_makes_what_plan_shows_and_then_there_is_nothing_to_do(admin: AdminClient, kafka: str) -> None:
    """A plan changes nothing; after apply the brokers have what is declared, and a second apply does nothing."""
    planned = clew("plan", "--kafka", kafka)
    assert planned.exit_code == PENDING, planned.output
    assert planned.stdout.count("create with") == len(NAMES)
    assert not set(NAMES) & set(admin.list_topics(timeout=10).topics)

    applied = clew("apply", "--kafka", kafka)
    assert applied.exit_code == OK, applied.output
    assert [partitions(admin, *each) for each in zip(NAMES, (12, 4, 12, 4), strict=True)] == [12, 4, 12, 4]
    assert config(admin, "clew.events.v1")["retention.ms"] == str(7 * 86_400_000)
    profiles = config(admin, "clew.profiles.v1")
    assert (profiles["cleanup.policy"], profiles["min.compaction.lag.ms"]) == ("compact", str(14 * 86_400_000))
    assert (profiles["min.insync.replicas"], profiles["unclean.leader.election.enable"]) == ("1", "false")

    for command in ("plan", "apply"):
        again = eventually(OK, command, "--kafka", kafka)
        assert again.exit_code == OK, again.output
        assert "all topics are as declared" in again.stdout


def test_too_few_brokers_are_told_before_anything_is_made(admin: AdminClient, kafka: str) -> None:
    """No topic is made with fewer replicas than somebody asked for."""
    applied = clew("apply", "--kafka", kafka, "--replicas", "2")
    assert applied.exit_code == FAILED
    assert "start the others, or say --replicas 1" in applied.stderr
    assert not set(NAMES) & set(admin.list_topics(timeout=10).topics)


def test_what_cannot_be_undone_is_withheld(admin: AdminClient, kafka: str) -> None:
    """More partitions and a shorter retention wait for their options; everything else is done at once."""
    make(admin, "clew.events.v1", 4, retention_ms="-1", unclean_leader_election_enable="true")
    make(admin, "clew.events.failed.v1", 7, retention_ms=str(30 * 86_400_000))
    make(admin, "clew.profiles.v1", 12, cleanup_policy="compact", min_compaction_lag_ms=str(14 * 86_400_000))

    applied = clew("apply", "--kafka", kafka)
    assert applied.exit_code == PENDING, applied.output
    assert "done: set unclean.leader.election.enable from true to false" in applied.stdout
    assert "needs --add-partitions" in applied.stdout
    assert "set retention.ms from -1 to 7d  needs --discard-records" in applied.stdout
    assert "clew.events.failed.v1 has 7 partitions, 4 are declared" in applied.stdout
    assert partitions(admin, "clew.events.v1", 4) == 4
    assert config(admin, "clew.events.v1")["retention.ms"] == "-1"

    more = json.loads(clew("apply", "--kafka", kafka, "--add-partitions", "--json").stdout)
    kinds = [(each["kind"], each.get("name"), each["done"]) for each in more["changes"]]
    assert ("set", "retention.ms", False) in kinds
    assert kinds[-1] == ("add_partitions", None, True)
    assert more["pending"] is True
    assert partitions(admin, "clew.events.v1", 12) == 12

    last = clew("apply", "--kafka", kafka, "--discard-records")
    assert last.exit_code == OK, last.output
    assert eventually(OK, "plan", "--kafka", kafka).exit_code == OK
    assert config(admin, "clew.events.v1")["retention.ms"] == str(7 * 86_400_000)
    assert partitions(admin, "clew.events.failed.v1", 7) == 7


def test_an_operators_file_is_what_counts(admin: AdminClient, kafka: str, tmp_path: Path) -> None:
    """Numbers of one's own, for one cluster; records that are there are still there afterwards."""
    file = tmp_path / "ours.toml"
    file.write_text('[defaults]\nreplicas = 1\n[topics."clew.events.v1"]\npartitions = 2\n')
    assert clew("apply", "--kafka", kafka, "--file", str(file)).exit_code == OK
    producer = Producer({"bootstrap.servers": kafka})
    offsets: list[int | None] = []
    producer.produce("clew.events.v1", b"x", on_delivery=lambda _, message: offsets.append(message.offset()))
    producer.flush(20)
    assert offsets == [0]

    assert eventually(OK, "plan", "--kafka", kafka, "--file", str(file)).exit_code == OK
    file.write_text(
        '[topics."clew.events.v1"]\npartitions = 2\n[topics."clew.events.v1".config]\n"retention.ms" = "9d"'
    )
    wrong = clew("plan", "--kafka", kafka, "--file", str(file))
    assert wrong.exit_code == USAGE
    assert "clew.profiles.v1: records of clew.events.v1 may need its own" in wrong.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_was_made_before_a_refusal_is_told(
    admin: AdminClient, kafka: str, tmp_path: Path, options: list[str]
) -> None:
    """Kafka does not know a setting of the last topic: those before it are there, and the output says so."""
    file = tmp_path / "ours.toml"
    file.write_text(f'[topics."{NAMES[-1]}".config]\n"no.such.setting" = 1\n')
    applied = clew("apply", "--kafka", kafka, "--file", str(file), *options)
    assert applied.exit_code == FAILED
    assert "no.such.setting" in applied.stderr
    assert [partitions(admin, *each) for each in zip(NAMES, (12, 4, 12, 0), strict=True)] == [12, 4, 12, 0]
    if options:
        made = json.loads(applied.stdout)
        assert [each["done"] for each in made["changes"]] == [True, True, True, False]
        assert made["pending"] is True
    else:
        assert applied.stdout.count("done: create") == 3


def test_a_start_makes_only_what_is_missing(admin: AdminClient, kafka: str) -> None:
    """What `clew up --kafka` does: a topic that is there stays as it is, and is told to differ."""
    make(admin, NAMES[0], 3)
    make(admin, NAMES[2], 12, retention_ms="1000")
    made, differing = create_missing(kafka)
    assert made == f"topics created: {NAMES[1]}, {NAMES[3]}"
    assert differing.startswith(
        f"topics not as declared: {NAMES[0]}, {NAMES[2]}; see `clew topics plan --kafka {kafka}"
    )
    assert [partitions(admin, *each) for each in zip(NAMES, (3, 4, 12, 4), strict=True)] == [3, 4, 12, 4]


def test_what_is_wrong_is_said_on_standard_error(tmp_path: Path) -> None:
    """No cluster named, none that answers, the embedded broker, a file or an address that is none."""
    nothing = clew("plan", "--data-dir", str(tmp_path))
    assert (nothing.exit_code, nothing.stdout) == (FAILED, "")
    assert "--kafka HOST:PORT" in nothing.stderr

    with pytest.raises(TopicsNotMade, match=r"127\.0\.0\.1:9"):
        create_missing("127.0.0.1:9")
    away = clew("plan", "--kafka", "127.0.0.1:9")
    assert (away.exit_code, away.stdout) == (FAILED, "")
    assert "127.0.0.1:9" in away.stderr

    with MockCluster() as embedded:
        answered = clew("apply", "--kafka", embedded.bootstrap)
    assert answered.exit_code == FAILED
    assert "embedded broker, which makes topics itself" in answered.stderr

    missing = clew("plan", "--kafka", "127.0.0.1:9", CLEW_KAFKA_PROPERTIES_FILE=str(tmp_path / "none"))
    assert missing.exit_code == USAGE
    assert f"CLEW_KAFKA_PROPERTIES_FILE: {tmp_path / 'none'}: No such file" in missing.stderr
    assert clew("plan", "--kafka", "nonsense").exit_code == USAGE
    assert clew("plan", "--file", str(tmp_path / "none")).exit_code == USAGE
