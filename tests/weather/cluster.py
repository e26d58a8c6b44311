"""The Kafka under test: three brokers, each behind a relay of its own, so that every link to a client can be cut."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.relay import CUT, CUT_ANSWERS, MEND, Relays
from tests.support.topics import EVENTS
from tools.kafka.cluster import START_SECONDS, LocalKafka
from tools.kafka.node import HOST, Node

BROKERS: Final = 3
_WHOLE_SECONDS: Final = 60.0
_ASK_SECONDS: Final = 5.0


class NotWhole(AssertionError):
    """The replicas of some partition did not come together again."""


class Cluster:
    """Three brokers whose processes and links are ours to disturb.

    Args:
        folder: Where everything is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.kafka = LocalKafka(folder, brokers=BROKERS, quick_start=True)
        self.relays = Relays([node.port for node in self.kafka.nodes])
        self._admin: AdminClient | None = None

    @property
    def direct(self) -> str:
        """The brokers' own addresses, past the relays, to begin with: brokers name the relays to whoever asks."""
        return ",".join(f"{HOST}:{node.port}" for node in self.kafka.nodes)

    async def leader(self) -> Node:
        """The broker that leads most partitions of the events topic."""
        leads = Counter(partition.leader for partition in (await self._partitions(EVENTS)).values())
        number: int = leads.most_common(1)[0][0]
        return self.kafka.nodes[number - 1]

    async def leads(self, node: Node) -> bool:
        """Whether a broker leads some partition of the events topic."""
        return any(partition.leader == node.number for partition in (await self._partitions(EVENTS)).values())

    async def end(self, node: Node, how: signal.Signals = signal.SIGKILL) -> None:
        """End a broker."""
        await asyncio.to_thread(node.end, how)

    async def launch(self, *nodes: Node) -> None:
        """Start brokers that were ended, and wait until they answer."""
        for node in nodes:
            node.launch()
        for node in nodes:
            await asyncio.to_thread(node.await_ready, time.monotonic() + START_SECONDS)

    def freeze(self, node: Node) -> None:
        """Stop a broker where it is: its connections stay open and nothing is answered."""
        assert node.process is not None
        node.process.send_signal(signal.SIGSTOP)

    def thaw(self, node: Node) -> None:
        """Let it go on."""
        assert node.process is not None
        node.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def cut(self, *nodes: Node, answers_only: bool = False) -> AsyncIterator[None]:
        """Hold back what clients and some brokers say to each other; with `answers_only`, what the brokers say."""
        places = [node.number - 1 for node in nodes]
        await self.relays.order(CUT_ANSWERS if answers_only else CUT, *places)
        try:
            yield
        finally:
            await self.relays.order(MEND, *places)

    async def await_whole(self) -> None:
        """Return when every replica of the events topic is in sync.

        Raises:
            NotWhole: That takes too long.
        """
        deadline = time.monotonic() + _WHOLE_SECONDS
        while not await self._is_whole():
            if time.monotonic() > deadline:
                raise NotWhole(f"{EVENTS} has not all of its replicas in sync after {_WHOLE_SECONDS:g} s")
            await asyncio.sleep(0.2)

    async def _is_whole(self) -> bool:
        try:
            partitions = await self._partitions(EVENTS)
        except KafkaException:
            return False
        return bool(partitions) and all(len(partition.isrs) == BROKERS for partition in partitions.values())

    async def _partitions(self, topic: str) -> dict[int, Any]:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.direct, "log_level": 0})
        metadata = await asyncio.to_thread(self._admin.list_topics, topic, timeout=_ASK_SECONDS)
        return dict(metadata.topics[topic].partitions)


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster whose relays run; the brokers are started by whoever runs the mesh, and ended here at the latest."""
    cluster = Cluster(folder)
    await cluster.relays.start()
    for node, port in zip(cluster.kafka.nodes, cluster.relays.ports, strict=True):
        node.advertised_port = port
    try:
        yield cluster
    finally:
        await asyncio.to_thread(cluster.kafka.kill)
        await cluster.relays.stop()
