"""The partition of a key is reckoned as the producer chooses it, and the ends are told as it was acknowledged."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # imported for us, as documented

from mesh.bus.kafka_client import KafkaSettings, connection_config, producer_config
from mesh.bus.kafka_ends import KafkaEnds
from mesh.bus.mock_cluster import MockCluster
from mesh.bus.partitioner import murmur2, partition_of
from mesh.errors import BusUnavailable
from mesh.ids import new_id
from tools.kafka.cluster import LocalKafka

PARTITIONS = 7
KEYS = 500


@pytest.fixture(params=["mock", "kafka"])
def settings(request: pytest.FixtureRequest, topic: str) -> Iterator[KafkaSettings]:
    """A cluster with the topic: the embedded broker's mock, and real Kafka."""
    if request.param == "mock":
        with MockCluster() as cluster:
            cluster.create_topic(topic, PARTITIONS)
            yield KafkaSettings(cluster.bootstrap)
        return
    kafka: LocalKafka | str = request.getfixturevalue("real_kafka")
    found = KafkaSettings(kafka if isinstance(kafka, str) else kafka.bootstrap)
    admin = AdminClient(connection_config(found))
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(20)
    yield found


def keys() -> list[bytes]:
    """Profile ids, and keys of every length up to 40 bytes."""
    chance = random.Random(7)
    return [new_id().encode() for _ in range(KEYS // 2)] + [chance.randbytes(1 + n % 40) for n in range(KEYS // 2)]


def test_the_hash_is_kafkas() -> None:
    """The vectors of Kafka's own UtilsTest, as numbers without a sign."""
    vectors = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert {key: murmur2(key) for key in vectors} == {key: value % (1 << 32) for key, value in vectors.items()}


async def test_partitions_and_ends_are_those_of_the_delivery_reports(settings: KafkaSettings, topic: str) -> None:
    """Every key lies where it is reckoned to lie, and each partition ends where its acknowledged records do."""
    delivered: list[Message] = []
    producer = Producer(producer_config(settings))
    for key in keys():
        producer.produce(topic, b"v", key, on_delivery=lambda _, record: delivered.append(record))
    assert await asyncio.to_thread(producer.flush, 20) == 0
    assert len(delivered) == KEYS
    chosen = [record.partition() for record in delivered]
    assert chosen == [partition_of(record.key() or b"", PARTITIONS) for record in delivered]

    found = await KafkaEnds(settings).ends((topic,))
    counts = Counter(chosen)
    assert found.offsets == {(topic, number): counts[number] for number in range(PARTITIONS)}
    assert found.cluster


async def test_a_topic_that_nobody_has_written_to_ends_at_nothing(settings: KafkaSettings, topic: str) -> None:
    """Asking for it is no failure, whether or not the broker makes it for that."""
    found = await KafkaEnds(settings).ends((f"{topic}.other",))
    assert not any(found.offsets.values())
    assert found.cluster


async def test_ends_fail_when_nobody_answers() -> None:
    """Closed, and within a few seconds."""
    with MockCluster() as cluster:
        ends = KafkaEnds(KafkaSettings(cluster.bootstrap))
        assert (await ends.ends(("other",))).cluster
        cluster.stop_brokers()
        with pytest.raises(BusUnavailable):
            await ends.ends(("other",))


def test_a_properties_file_cannot_choose_another_partitioner(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Barriers would speak of the wrong partitions."""
    file = tmp_path_factory.mktemp("kafka") / "properties"
    file.write_text("partitioner=random\n")
    assert producer_config(KafkaSettings("h:1", properties_file=file))["partitioner"] == "murmur2_random"
