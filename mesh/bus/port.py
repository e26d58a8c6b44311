"""What a publisher may ask of the bus, whichever broker stands behind it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Partition: TypeAlias = tuple[str, int]
"""A topic's full name and the number of one of its partitions."""
Offsets: TypeAlias = Mapping[Partition, int]
"""For partitions, the offset of the record that comes next: every one below it is meant. An absent one is at 0."""


@dataclass(slots=True)
class Record:
    """One message on its way to a topic.

    Attributes:
        topic: Full name of the topic.
        key: Decides the partition; records with one key keep their order.
        value: The framed message (see `mesh.bus.framing`).
        headers: Names and values in order; a name may occur more than once.

    """

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """One record of a batch that the broker has not acknowledged.

    Attributes:
        index: Position of the record in the batch that was given to `produce`.
        detail: What went wrong, for people; it never holds the record's content.
        retriable: Whether the same record may succeed later (broker down, queue full); false when it never can
            (too large).
        certain: Whether the record is on no topic for sure: it never left this process, or the broker refused it. A
            record that was given up while it waited may have been stored, or be stored yet.

    """

    index: int
    detail: str
    retriable: bool
    certain: bool = False


class Bus(Protocol):
    """A publisher to Kafka whose success means durable.

    The bus fails closed: whatever it cannot prove to be acknowledged is a failure. A failure by timeout leaves open
    whether the broker stored the record, so a caller that sends it again must expect a duplicate.
    """

    @property
    def in_flight(self) -> int:
        """How many records are in batches whose futures have not resolved yet."""
        ...

    @property
    def acknowledged(self) -> Offsets:
        """How far this publisher's acknowledgements reach in each partition.

        It holds what stands in the results of all futures that have resolved. A record that is produced from now on
        comes to stand at or above it.
        """
        ...

    def produce(self, records: Sequence[Record]) -> asyncio.Future[list[DeliveryFailure]]:
        """Hand over a batch, in order; called on the event loop, never blocks, never raises for a record's sake.

        Args:
            records: The batch. The order per key is kept within it and from one call to the next. When the queue is
                full, the rest of the batch fails together, so that what was taken is always its beginning.

        Returns:
            A future that always resolves, at the latest after the delivery timeout or at `close`: with the records that
            failed, by index in ascending order, or an empty list when all are stored by every in-sync replica.
            Cancelling it does not recall the records.

        """
        ...

    async def check(self) -> None:
        """Ask the broker for its metadata.

        Raises:
            BusUnavailable: No broker answered within a few seconds.

        """
        ...

    async def close(self) -> None:
        """Take no more, wait a bounded time for what is in flight, fail the rest; may be called twice."""
        ...
