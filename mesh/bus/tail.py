"""Reading back what is on the topics: by partition and offset, without a consumer group.

A publisher that must know whether a record was stored, although nobody told it, reads the end of the topic.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.bus.memory import MemoryBus
from mesh.bus.port import Offsets, Partition
from mesh.errors import BusUnavailable

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record as it lies on its topic."""

    topic: str
    partition: int
    offset: int
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the topics end, on which cluster.

    Attributes:
        cluster: The cluster's id; another one means another cluster, or one that has forgotten everything.
        offsets: The next offset of every partition of the topics; a topic that does not exist has none.

    """

    cluster: str
    offsets: Offsets


class EndReader(Protocol):
    """Says where topics end."""

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Where the topics end now: records that were acknowledged before the call lie below.

        Raises:
            BusUnavailable: The brokers do not answer in time.
        """
        ...


class Tail(EndReader, Protocol):
    """Reads topics by offset. Every method raises `BusUnavailable` when the brokers do not answer in time."""

    def read(self, lows: Offsets, ends: Offsets) -> AsyncIterator[list[StoredRecord]]:
        """Yield the records from `lows` (0 where absent) up to `ends`, in lists, in the order of each partition.

        Only partitions of `ends` are read; records that retention has removed are left out.
        """
        ...

    async def pick(self, places: Mapping[Partition, Collection[int]]) -> list[StoredRecord]:
        """Read single records by their offsets; those that are not there are left out, in no order of partitions."""
        ...

    async def close(self) -> None:
        """Let go of the brokers; may be called twice."""
        ...


class MemoryTail:
    """The topics of a bus in memory."""

    def __init__(self, bus: MemoryBus, cluster: str = "memory") -> None:
        self._bus = bus
        self._cluster = cluster

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Where the topics end; see `EndReader.ends`."""
        self._check()
        written = set(self._bus.topics())
        return Ends(self._cluster, {(topic, 0): len(self._bus.read(topic)) for topic in topics if topic in written})

    async def read(self, lows: Offsets, ends: Offsets) -> AsyncIterator[list[StoredRecord]]:
        """Yield the records; see `Tail.read`."""
        for partition, end in ends.items():
            for low in range(lows.get(partition, 0), end, _CHUNK):
                self._check()
                yield self._records(partition, low, min(low + _CHUNK, end))

    async def pick(self, places: Mapping[Partition, Collection[int]]) -> list[StoredRecord]:
        """Read single records; see `Tail.pick`."""
        ends = (await self.ends([topic for topic, _ in places])).offsets
        return [
            record
            for partition, offsets in places.items()
            for offset in sorted(offsets)
            if 0 <= offset < ends.get(partition, 0)
            for record in self._records(partition, offset, offset + 1)
        ]

    async def close(self) -> None:
        """Nothing is held; see `Tail.close`."""

    def _records(self, partition: Partition, low: int, end: int) -> list[StoredRecord]:
        topic, number = partition
        records = self._bus.read(topic)[low:end]
        return [
            StoredRecord(topic, number, low + index, record.value, record.headers)
            for index, record in enumerate(records)
        ]

    def _check(self) -> None:
        if self._bus.stopped:
            raise BusUnavailable("the in-memory broker is stopped")
