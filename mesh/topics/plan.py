"""What has to be done so that a cluster's topics are as declared: pure, to be shown before it is applied.

Nothing here deletes a topic or a partition. Two kinds of change are *withheld* until whoever applies the plan allows
them, since they cannot be undone: more partitions, by which keys move, and what lets Kafka delete records sooner.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from mesh.topics.declaration import Topic, readable

MIN_IN_SYNC: Final = "min.insync.replicas"
# A lower value of these lets Kafka delete records, or what tells of deleted ones, sooner; -1 is for ever.
_KEEPS_RECORDS: Final = frozenset(
    {"retention.ms", "retention.bytes", "min.compaction.lag.ms", "max.compaction.lag.ms", "delete.retention.ms"}
)
_POLICY: Final = "cleanup.policy"


class Permission(Enum):
    """What a change needs to be allowed by; the value is the option's name."""

    ADD_PARTITIONS = "--add-partitions"
    DISCARD_RECORDS = "--discard-records"


class NotPossible(Exception):
    """The cluster cannot have the topics as declared; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ObservedTopic:
    """A topic as it is: `replicas` is the fewest that one of its partitions has."""

    partitions: int
    replicas: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as it is: how many brokers answer, and its topics of the names that were asked for."""

    brokers: int
    topics: Mapping[str, ObservedTopic]


@dataclass(frozen=True, slots=True)
class Create:
    """Make a topic that is not there."""

    topic: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    needs: None = None
    verb: ClassVar[str] = "create"

    def __str__(self) -> str:
        """For people."""
        config = ", ".join(f"{name}={readable(name, value)}" for name, value in self.config.items())
        return f"create with {self.partitions} partitions, {self.replicas} replicas, {config}"


@dataclass(frozen=True, slots=True)
class SetConfig:
    """Give a configuration another value."""

    topic: str
    name: str
    before: str
    after: str
    needs: Permission | None
    verb: ClassVar[str] = "set"

    def __str__(self) -> str:
        """For people."""
        return f"set {self.name} from {readable(self.name, self.before)} to {readable(self.name, self.after)}"


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """Give a topic more partitions: records of one key stand on two of them from then on."""

    topic: str
    before: int
    after: int
    needs: Permission = Permission.ADD_PARTITIONS
    verb: ClassVar[str] = "add_partitions"

    def __str__(self) -> str:
        """For people."""
        return f"add partitions, {self.after} instead of {self.before}: keys move, no order is kept over the change"


Change = Create | SetConfig | AddPartitions


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes in the order in which they are made, and remarks on what no change mends."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    def allowed(self, permissions: Iterable[Permission]) -> list[Change]:
        """The changes that may be made with these permissions."""
        given = set(permissions)
        return [change for change in self.changes if change.needs is None or change.needs in given]


def make_plan(topics: Iterable[Topic], cluster: Cluster, replicas: int | None = None) -> Plan:
    """Compare what is declared with what is there.

    Args:
        topics: As declared.
        cluster: As it is.
        replicas: For topics to be created, instead of what is declared.

    Raises:
        NotPossible: There are fewer brokers than replicas to create; one broker alone is taken for a developer's.
    """
    changes: list[Change] = []
    notes: list[str] = []
    for topic in topics:
        found = cluster.topics.get(topic.name)
        if found is None:
            changes.append(_creation(topic, cluster, replicas))
        else:
            changes += _differences(topic, found)
            notes += _remarks(topic, found, cluster.brokers)
    if cluster.brokers == 1 and any(topic.replicas > 1 for topic in topics):
        notes.append("one broker: one replica of each topic, so a lost disk loses what was acknowledged")
    return Plan(tuple(changes), tuple(notes))


def _creation(topic: Topic, cluster: Cluster, replicas: int | None) -> Create:
    wanted = replicas or topic.replicas
    if wanted > cluster.brokers > 1 or (replicas or 0) > cluster.brokers:
        raise NotPossible(
            f"{topic.name} is to have {wanted} replicas and {cluster.brokers} broker(s) answer:"
            f" start the others, or say --replicas {cluster.brokers}"
        )
    copies = min(wanted, cluster.brokers)
    return Create(topic.name, topic.partitions, copies, _fitted(topic, copies))


def _fitted(topic: Topic, replicas: int) -> Mapping[str, str]:
    """The configuration, with no more in-sync replicas than may be missed one of: else one lost broker stops all."""
    in_sync = topic.config.get(MIN_IN_SYNC)
    if in_sync is None:
        return topic.config
    return {**topic.config, MIN_IN_SYNC: str(min(int(in_sync), max(1, replicas - 1)))}


def _differences(topic: Topic, found: ObservedTopic) -> Iterator[Change]:
    for name, wanted in _fitted(topic, found.replicas).items():
        is_now = found.config.get(name, "")
        if _differs(name, is_now, wanted):
            needs = Permission.DISCARD_RECORDS if _discards(name, is_now, wanted) else None
            yield SetConfig(topic.name, name, is_now, wanted, needs)
    if found.partitions < topic.partitions:
        yield AddPartitions(topic.name, found.partitions, topic.partitions)


def _differs(name: str, is_now: str, wanted: str) -> bool:
    # Brokers keep a list in the order in which it was set.
    return set(is_now.split(",")) != set(wanted.split(",")) if name == _POLICY else is_now != wanted


def _discards(name: str, is_now: str, wanted: str) -> bool:
    if name not in _KEEPS_RECORDS:
        return name == _POLICY
    for_ever = float("inf")
    before, after = (for_ever if text in {"-1", ""} else float(text) for text in (is_now, wanted))
    return after < before


def _remarks(topic: Topic, found: ObservedTopic, brokers: int) -> Iterator[str]:
    if found.partitions > topic.partitions:
        yield (
            f"{topic.name} has {found.partitions} partitions, {topic.partitions} are declared:"
            " Kafka cannot take any away; declare what is there"
        )
    # One replica on one broker is a developer's, of which one note for all topics tells.
    if found.replicas < topic.replicas and max(found.replicas, brokers) > 1:
        copies = "1 replica, so a lost disk loses what was acknowledged" if found.replicas == 1 else ""
        yield (
            f"{topic.name} has {copies or f'{found.replicas} replicas'}; {topic.replicas} are declared:"
            " kafka-reassign-partitions moves replicas, this command does not"
        )
