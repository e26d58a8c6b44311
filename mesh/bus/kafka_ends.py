"""Where Kafka's topics end, asked while events wait: one client is kept, and each call is two round trips."""

import asyncio
from collections.abc import Sequence
from typing import Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # imported for us, as documented

from mesh.bus.kafka_client import KafkaSettings, connection_config
from mesh.bus.port import Partition
from mesh.bus.tail import Ends
from mesh.errors import BusUnavailable

_ANSWER_SECONDS: Final = 3.0


class KafkaEnds:
    """Asks a Kafka cluster; `KafkaTail` answers the same once in a while, by a client that it makes for the call.

    Raises:
        OSError, ValueError: The properties file cannot be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        # What goes wrong is in the answers, and that the brokers are gone is logged by the bus.
        self._admin = AdminClient({**connection_config(settings), "log_level": 0})

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Where the topics end; see `mesh.bus.tail.EndReader.ends`.

        What a producer was told to be stored by all in-sync replicas lies below: a broker gives out its high watermark,
        and one that has just become leader answers only once it knows it (KIP-207).
        """
        try:
            cluster, partitions = await asyncio.to_thread(self._partitions, topics)
            return Ends(cluster, await self._offsets(partitions))
        except KafkaException as exception:
            raise BusUnavailable(f"Kafka's ends cannot be read: {exception.args[0].str()}") from exception

    def _partitions(self, topics: Sequence[str]) -> tuple[str, list[Partition]]:
        found: list[Partition] = []
        cluster: str | None = None
        for topic in topics:
            metadata = self._admin.list_topics(topic, timeout=_ANSWER_SECONDS)
            cluster = metadata.cluster_id
            known = metadata.topics[topic]
            if known.error is None:
                found += [(topic, number) for number in known.partitions]
            elif known.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(known.error)
        return cluster or "", found

    async def _offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        if not partitions:
            return {}
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(*partition): latest for partition in partitions}
        answers = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_ANSWER_SECONDS
        )
        results = await asyncio.gather(*(asyncio.wrap_future(answer) for answer in answers.values()))
        return {
            (str(place.topic), int(place.partition)): int(result.offset)
            for place, result in zip(answers, results, strict=True)
        }
