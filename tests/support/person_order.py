"""How a consumer keeps a person's order over a login: the rule of docs/TOPICS.md, small and without a Kafka client.

Within one key Kafka keeps the order. Where profiles were merged, the records under the old keys lie on other
partitions, and what lies below a barrier is processed before the event that needs it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from clew.identity.v1.profile_changed_pb2 import ProfileChanged

Barriers = list[tuple[int, int]]


class Event(NamedTuple):
    """A record of `clew.events.v1`: its place, its key, its `profile_epoch`, and whatever else the consumer wants."""

    partition: int
    offset: int
    profile_id: str
    epoch: int
    value: Any = None


class PersonOrder:
    """Takes events as they are read, and gives them out when they may be processed.

    Args:
        read_aliases: Reads `clew.profiles.v1` from where it stopped up to the end that the topic has now.
        starts: The offset at which each partition is begun, 0 where absent. A consumer that goes on where it had
            stopped has processed all below.
    """

    def __init__(
        self, read_aliases: Callable[[], Iterable[ProfileChanged]], starts: Mapping[int, int] | None = None
    ) -> None:
        self._read_aliases = read_aliases
        self._queues: dict[int, deque[Event]] = defaultdict(deque)
        self._read: dict[int, int] = defaultdict(int, starts or {})
        self._aliases: dict[str, list[ProfileChanged]] = defaultdict(list)
        self._known: dict[str, int] = {}
        # What the first event of a partition waits for; looked up once, so that it cannot grow while it waits.
        self._waiting: dict[int, Barriers] = {}

    @property
    def held(self) -> int:
        """How many events wait."""
        return sum(map(len, self._queues.values()))

    def put(self, event: Event) -> None:
        """Take the next event of a partition."""
        self._queues[event.partition].append(event)
        self._read[event.partition] = event.offset + 1

    def skip(self, partition: int, offset: int) -> None:
        """All below this offset was put, and what was not is no event: a transaction's mark, or removed by retention.

        To be called where a partition is read to its end, or goes on higher than it had stopped.
        """
        self._read[partition] = max(self._read[partition], offset)

    def take(self) -> Iterator[Event]:
        """Yield what may be processed now; an event counts as processed once the next one is asked for."""
        progress = True
        while progress:
            progress = False
            for partition, queue in list(self._queues.items()):
                while queue and self._may_pass(queue[0]):
                    self._waiting.pop(partition, None)
                    yield queue[0]
                    queue.popleft()
                    progress = True

    def _processed(self, partition: int) -> int:
        """The offset below which everything is processed."""
        queue = self._queues[partition]
        return queue[0].offset if queue else self._read[partition]

    def _may_pass(self, event: Event) -> bool:
        """Whether all is processed that the event comes after."""
        if event.epoch <= self._known.get(event.profile_id, 0):
            return True
        barriers = self._waiting.get(event.partition)
        if barriers is None:
            barriers = self._waiting[event.partition] = self._barriers(event)
        if any(self._processed(partition) < offset for partition, offset in barriers):
            return False
        self._known[event.profile_id] = event.epoch
        return True

    def _barriers(self, event: Event) -> Barriers:
        """Those of the profile's aliases up to the first one of the event's epoch.

        It was acknowledged before the event was published, so it is there; or compaction has removed it, and retention
        what its barriers speak of.
        """
        for alias in self._read_aliases():
            self._aliases[alias.profile_id].append(alias)
        found: Barriers = []
        for alias in self._aliases[event.profile_id]:
            found += [(barrier.partition, barrier.offset) for barrier in alias.barriers]
            if alias.epoch >= event.epoch:
                return found
        return []
