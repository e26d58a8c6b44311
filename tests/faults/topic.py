"""A whole topic, read with a stock consumer from its beginning to its end."""

from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tests.faults.audit import Copies, Copy

_STEP_SECONDS: Final = 0.5
_SILENCE_SECONDS: Final = 30.0
_MESSAGE_ID: Final = "clew-message-id"


def read_all(bootstrap: str, topic: str) -> Iterator[Any]:
    """Every record that stands on a topic now; none of a topic that does not exist.

    Raises:
        KafkaException: It cannot be read.
        TimeoutError: Nothing comes although the end is not reached.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # What a transaction gave up is on nobody's topic.
            "isolation.level": "read_committed",
        }
    )
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in found])
        yield from _until_the_end(consumer, set(found))
    finally:
        consumer.close()


def read_copies(bootstrap: str, topic: str) -> Copies:
    """Where the records of each message stand on a topic."""
    copies: dict[str, list[Copy]] = {}
    for record in read_all(bootstrap, topic):
        message_id = dict(record.headers())[_MESSAGE_ID].decode()
        _, milliseconds = record.timestamp()
        copies.setdefault(message_id, []).append(Copy(milliseconds / 1000, record.partition(), record.offset()))
    return copies


def _until_the_end(consumer: Consumer, unread: set[int]) -> Iterator[Any]:
    silence = 0.0
    while unread:
        records = consumer.consume(1000, timeout=_STEP_SECONDS)
        silence = 0.0 if records else silence + _STEP_SECONDS
        if silence > _SILENCE_SECONDS:
            raise TimeoutError(f"the end of partitions {sorted(unread)} is not reached")
        for record in records:
            error = record.error()
            if error is None:
                yield record
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(record.partition())
            else:
                raise KafkaException(error)
