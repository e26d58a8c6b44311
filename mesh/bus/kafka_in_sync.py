"""Whether a partition's tail can be believed: with too few replicas in sync it holds records that nobody can read.

A leader appends what a producer sends before its followers have it, and shows it to readers once enough of them do.
While fewer replicas are in sync than `min.insync.replicas` asks for, that does not happen: a record which no reader
finds may be stored all the same, and be shown when the replicas are together again.
"""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # imported for us, as documented
    AdminClient,
    ConfigResource,
    PartitionMetadata,
    ResourceType,
)

from mesh.bus.kafka_client import KafkaSettings, connection_config
from mesh.errors import BusUnavailable

_ANSWER_SECONDS: Final = 3.0
_MINIMUM: Final = "min.insync.replicas"


class InSync:
    """Looks at topics of a cluster; its blocking calls belong into threads.

    Raises:
        OSError, ValueError: The properties file cannot be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._config = {**connection_config(settings), "log_level": 0}

    def check(self, topic: str, partitions: Iterable[PartitionMetadata]) -> None:
        """See that every partition shows all that it holds, or is about to.

        The cluster is asked for the topic's minimum only when a replica is missing somewhere.

        Raises:
            BusUnavailable: One does not.
        """
        short = [each for each in partitions if len(each.isrs) < len(each.replicas)]
        if not short:
            return
        known = self._minimum(topic)
        for each in short:
            least = usual_minimum(len(each.replicas)) if known is None else known
            if len(each.isrs) < least:
                raise BusUnavailable(
                    f"Kafka's topics cannot be believed yet: {topic}/{each.id} has {len(each.isrs)} of"
                    f" {len(each.replicas)} replicas in sync and needs {least}"
                )

    def _minimum(self, topic: str) -> int | None:
        """The topic's `min.insync.replicas`; None when we are not told."""
        admin = AdminClient(self._config)
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            (answer,) = admin.describe_configs([resource], request_timeout=_ANSWER_SECONDS).values()
            return int(answer.result()[_MINIMUM].value)
        except (KafkaException, KeyError):
            # Who may write to a topic need not be allowed to read its configuration.
            return None


def usual_minimum(replicas: int) -> int:
    """How many replicas must be in sync where the cluster does not say: half of them, rounded up."""
    return (replicas + 1) // 2
