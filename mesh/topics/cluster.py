"""Topics on a real cluster: seen and changed through Kafka's admin API."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # imported for us, as documented
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from mesh.bus.kafka_client import KafkaSettings, QuietLog, connection_config
from mesh.topics.plan import AddPartitions, Change, Cluster, Create, ObservedTopic, SetConfig

_SECONDS: Final = 10.0
_CREATED: Final = KafkaError.TOPIC_ALREADY_EXISTS
# What librdkafka's mock broker calls itself; it knows no request by which topics are made.
_EMBEDDED: Final = "mockCluster"


class ClusterError(Exception):
    """Kafka did not answer, or refused; the message says what and why."""


class TopicAdmin:
    """The topics of one cluster.

    Args:
        settings: How to reach it.
        seconds: How long each question may take.

    Raises:
        OSError, ValueError: The properties file cannot be read.
    """

    def __init__(self, settings: KafkaSettings, seconds: float = _SECONDS) -> None:
        self._bootstrap = settings.bootstrap
        self._seconds = seconds
        self._admin = AdminClient(connection_config(settings), logger=QuietLog())

    def observe(self, names: Iterable[str]) -> Cluster:
        """The cluster and those of the named topics that are there; nothing is created by looking.

        Raises:
            ClusterError: It does not answer or refuses.
        """
        metadata = self._ask("its topics", lambda: self._admin.list_topics(timeout=self._seconds))
        if str(metadata.cluster_id).startswith(_EMBEDDED):
            raise ClusterError(
                f"{self._bootstrap} is the embedded broker, which makes topics itself; name a real Kafka"
            )
        there = [name for name in names if name in metadata.topics]
        for name in there:
            if metadata.topics[name].error is not None:
                raise ClusterError(f"Kafka refuses to show {name}: {metadata.topics[name].error.str()}")
        configs = self._configs(there)
        topics = {
            name: ObservedTopic(
                partitions=len(metadata.topics[name].partitions),
                replicas=min(len(each.replicas) for each in metadata.topics[name].partitions.values()),
                config=configs[name],
            )
            for name in there
        }
        return Cluster(len(metadata.brokers), topics)

    def apply(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Make the changes one after the other; yields each as it is made. A topic that is there by now is made.

        Raises:
            ClusterError: One was refused; those after it are not made.
        """
        for change in changes:
            self._ask(f"{change.topic}: {change.verb}", lambda change=change: self._make(change))  # type: ignore[misc]
            yield change

    def _make(self, change: Change) -> None:
        match change:
            case Create():
                topic = NewTopic(change.topic, change.partitions, change.replicas, config=dict(change.config))
                try:
                    _wait(self._admin.create_topics([topic], operation_timeout=self._seconds), self._seconds)
                except KafkaException as error:
                    if error.args[0].code() != _CREATED:
                        raise
            case SetConfig():
                entry = ConfigEntry(change.name, change.after, incremental_operation=AlterConfigOpType.SET)
                resource = ConfigResource(ResourceType.TOPIC, change.topic, incremental_configs=[entry])
                _wait(self._admin.incremental_alter_configs([resource]), self._seconds)
            case AddPartitions():
                more = NewPartitions(change.topic, change.after)
                _wait(self._admin.create_partitions([more], operation_timeout=self._seconds), self._seconds)

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        answers = self._ask(
            "the configuration of its topics",
            lambda: [answer.result(self._seconds) for answer in self._admin.describe_configs(asked).values()],
        )
        return {
            name: {key: entry.value or "" for key, entry in answer.items()}
            for name, answer in zip(names, answers, strict=True)
        }

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            raise ClusterError(f"Kafka at {self._bootstrap}: {what}: {error.str()}") from exception
        except TimeoutError as error:
            raise ClusterError(f"Kafka at {self._bootstrap} does not answer: {what}") from error


def _wait(answers: dict[Any, "Future[Any]"], seconds: float) -> None:
    for answer in answers.values():
        answer.result(seconds + 1)
