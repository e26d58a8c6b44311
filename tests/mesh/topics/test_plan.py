"""What a plan contains, and that it never takes anything away unasked."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.topics.declaration import Topic
from mesh.topics.plan import (
    AddPartitions,
    Cluster,
    Create,
    NotPossible,
    ObservedTopic,
    Permission,
    Plan,
    SetConfig,
    make_plan,
)

CONFIG = {"cleanup.policy": "delete", "min.insync.replicas": "2", "retention.ms": "1000"}
TOPIC = Topic("t", "Ts", "x.T", "id", (), 12, 3, CONFIG)
BOTH = list(Permission)


def observed(config: Mapping[str, str] | None = None, *, partitions: int = 12, replicas: int = 3) -> ObservedTopic:
    """The topic on a cluster: as declared, but for what is named."""
    return ObservedTopic(partitions, replicas, {**CONFIG, "x": "y", **(config or {})})


def plan(found: ObservedTopic | None, brokers: int = 3, topic: Topic = TOPIC, replicas: int | None = None) -> Plan:
    """The plan for the one topic."""
    return make_plan([topic], Cluster(brokers, {"t": found} if found else {}), replicas)


def test_a_missing_topic_is_created_as_declared() -> None:
    """With partitions, replicas and configuration."""
    assert plan(None).changes == (Create("t", 12, 3, CONFIG),)


def test_a_topic_as_declared_needs_nothing() -> None:
    """What is not declared may be anything."""
    assert plan(observed()) == Plan((), ())


def test_one_broker_is_a_developers() -> None:
    """It gets one replica, and is told what that means."""
    made = plan(None, brokers=1)
    assert made.changes == (Create("t", 12, 1, CONFIG | {"min.insync.replicas": "1"}),)
    assert "a lost disk loses" in made.notes[0]
    assert plan(observed({"min.insync.replicas": "1"}, replicas=1), brokers=1).changes == ()


def test_too_few_brokers_are_an_error() -> None:
    """A broker that is down must not leave topics with a replica less for ever, unless somebody says so."""
    with pytest.raises(NotPossible, match="3 replicas and 2 broker"):
        plan(None, brokers=2)
    assert plan(None, brokers=2, replicas=2).changes == (Create("t", 12, 2, CONFIG | {"min.insync.replicas": "1"}),)
    with pytest.raises(NotPossible, match="5 replicas"):
        plan(None, brokers=1, replicas=5)


def test_more_partitions_are_withheld() -> None:
    """Keys move with them, so they are added only where that is allowed."""
    made = plan(observed(partitions=4))
    assert made.changes == (AddPartitions("t", 4, 12),)
    assert "keys move" in str(made.changes[0])
    assert made.allowed([]) == made.allowed([Permission.DISCARD_RECORDS]) == []
    assert made.allowed([Permission.ADD_PARTITIONS]) == [AddPartitions("t", 4, 12)]


def test_partitions_are_never_taken_away() -> None:
    """Kafka cannot; it is a remark, and no change is pending for ever."""
    made = plan(observed(partitions=16))
    assert made.changes == ()
    assert "16 partitions, 12 are declared" in made.notes[0]


@pytest.mark.parametrize(
    ("name", "is_now", "wanted", "discards"),
    [
        ("retention.ms", "2000", "1000", True),
        ("retention.ms", "-1", "1000", True),
        ("retention.ms", "500", "1000", False),
        ("retention.ms", "1000", "-1", False),
        ("retention.bytes", "-1", "1000", True),
        ("min.compaction.lag.ms", "2000", "1000", True),
        ("max.compaction.lag.ms", "9223372036854775807", "1000", True),
        ("cleanup.policy", "delete", "compact", True),
        ("cleanup.policy", "compact", "compact,delete", True),
        ("min.insync.replicas", "1", "2", False),
        ("unclean.leader.election.enable", "true", "false", False),
    ],
)
def test_what_lets_kafka_delete_sooner_is_withheld(name: str, is_now: str, wanted: str, *, discards: bool) -> None:
    """A shorter retention deletes records that are there, at once."""
    topic = replace(TOPIC, config=CONFIG | {name: wanted})
    needs = Permission.DISCARD_RECORDS if discards else None
    made = plan(observed({name: is_now}), topic=topic)
    assert made.changes == (SetConfig("t", name, is_now, wanted, needs),)
    assert made.allowed([]) == ([] if discards else list(made.changes))


def test_policies_are_sets() -> None:
    """Brokers keep the order in which they were set."""
    topic = replace(TOPIC, config=CONFIG | {"cleanup.policy": "delete,compact"})
    assert plan(observed({"cleanup.policy": "compact,delete"}), topic=topic).changes == ()


def test_other_replicas_are_a_remark() -> None:
    """Moving replicas is a job for Kafka's own tool; in-sync replicas fit those that are there."""
    made = plan(observed({"min.insync.replicas": "1"}, replicas=2))
    assert made.changes == ()
    assert "kafka-reassign-partitions" in made.notes[0]


@pytest.mark.parametrize(("brokers", "notes"), [(3, 1), (2, 1), (1, 0)])
def test_one_replica_is_a_developers_on_one_broker_only(brokers: int, notes: int) -> None:
    """On a cluster of several it is what brokers gave a topic that they made themselves, and no 200 should rest on."""
    made = plan(observed({"min.insync.replicas": "1"}, replicas=1), brokers=brokers)
    assert made.changes == ()
    told = [note for note in made.notes if "t has 1 replica, so a lost disk loses" in note]
    assert len(told) == notes


CONFIGS = st.fixed_dictionaries(
    {
        "cleanup.policy": st.sampled_from(["delete", "compact"]),
        "min.insync.replicas": st.integers(1, 3).map(str),
        "retention.ms": st.integers(-1, 5).filter(bool).map(str),
    }
)


@given(CONFIGS, CONFIGS, st.integers(1, 20), st.integers(1, 3), st.lists(st.sampled_from(BOTH)))
def test_applying_a_plan_leaves_only_what_was_withheld(
    declared: Mapping[str, str],
    there: Mapping[str, str],
    partitions: int,
    replicas: int,
    permissions: list[Permission],
) -> None:
    """Whatever is there: a second plan holds what the first was not allowed to do, and nothing else."""
    topic = replace(TOPIC, config=declared)
    before = ObservedTopic(partitions, replicas, there)
    first = plan(before, topic=topic)
    done = first.allowed(permissions)
    after = before
    for change in done:
        match change:
            case SetConfig():
                after = replace(after, config={**after.config, change.name: change.after})
            case AddPartitions():
                assert change.after > after.partitions
                after = replace(after, partitions=change.after)
            case Create():
                pytest.fail("it is there")
    assert plan(after, topic=topic).changes == tuple(change for change in first.changes if change not in done)
    if not permissions:
        assert after.partitions == before.partitions
        assert after.config["cleanup.policy"] == before.config["cleanup.policy"]
