"""A queue that many sources wait in and none can fill for the others.

While all that waits fits into one batch, it leaves in order of arrival. Once it does not, sources take turns (deficit
round robin: Shreedhar and Varghese, "Efficient fair queuing using deficit round-robin", 1996), so that a source with
one waiting event is served in the next batch however many another has. A source's own entries keep their order always.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar

from gateway.limits.share import weight

QUANTUM: Final = 32
"""What a source may send in one turn, by weight. Small beside a batch, so that a batch holds turns of many sources."""


class Queued(Protocol):
    """What waits: whose it is, and how much room it takes."""

    number: int
    """Set by the queue: the place in order of arrival."""

    @property
    def flow(self) -> Hashable:
        """Whose it is."""
        ...

    @property
    def count(self) -> int:
        """How many events it holds."""
        ...

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        ...


EntryT = TypeVar("EntryT", bound=Queued)
_BY_ARRIVAL: Final = attrgetter("number")


class _Flow(Generic[EntryT]):
    """What one source has waiting."""

    __slots__ = ("credit", "entries", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        # In order of arrival; who leaves, from anywhere in it, costs the same however many wait.
        self.entries: OrderedDict[EntryT, None] = OrderedDict()
        self.credit = 0

    @property
    def first(self) -> EntryT:
        """The entry that has waited longest."""
        return next(iter(self.entries))


class FairQueue(Generic[EntryT]):
    """Entries by source. All counts are of what waits now."""

    __slots__ = ("_flows", "_granted", "_last", "_number", "_round", "count", "mixed", "size")

    def __init__(self) -> None:
        self._flows: dict[Hashable, _Flow[EntryT]] = {}
        # The sources that have anything waiting; the first one's turn is under way.
        self._round: deque[_Flow[EntryT]] = deque()
        self._granted = False
        self._last: Hashable = None
        self._number = 0
        self.count = 0
        """Events."""
        self.size = 0
        """Bytes."""
        self.mixed = False
        """Whether the last batch was of several sources, or of another one than the batch before."""

    def __bool__(self) -> bool:
        return bool(self._round)

    @property
    def flows(self) -> int:
        """How many sources have anything waiting."""
        return len(self._round)

    def push(self, entry: EntryT) -> None:
        """Let an entry wait."""
        flow = self._flows.get(entry.flow)
        if flow is None:
            flow = self._flows[entry.flow] = _Flow(entry.flow)
            self._round.append(flow)
        self._number = entry.number = self._number + 1
        flow.entries[entry] = None
        self.count += entry.count
        self.size += entry.size

    def discard(self, entry: EntryT) -> None:
        """Take an entry out if it waits here."""
        flow = self._flows.get(entry.flow)
        if flow is None or entry not in flow.entries:
            return
        del flow.entries[entry]
        self._uncount(entry)
        if not flow.entries:
            self._end(flow)

    def take(self, max_count: int, max_bytes: int) -> list[EntryT]:
        """The next entries that fit into one batch, in order of arrival. One that alone exceeds the bounds is alone."""
        only = self._round[0].key if len(self._round) == 1 else None
        self.mixed = len(self._round) > 1 or (self._last is not None and only != self._last)
        self._last = only
        if self.count <= max_count and self.size <= max_bytes:
            return self._take_all()
        taken = self._take_in_turns(max_count, max_bytes)
        if self.mixed:
            taken.sort(key=_BY_ARRIVAL)
        return taken

    def _take_all(self) -> list[EntryT]:
        taken = [entry for flow in self._round for entry in flow.entries]
        if len(self._round) > 1:
            taken.sort(key=_BY_ARRIVAL)
        self._flows.clear()
        self._round.clear()
        self._granted = False
        self.count = self.size = 0
        return taken

    def _take_in_turns(self, max_count: int, max_bytes: int) -> list[EntryT]:
        taken: list[EntryT] = []
        count = size = 0
        while self._round:
            flow = self._round[0]
            if not self._granted:
                flow.credit += QUANTUM
                self._granted = True
            while flow.entries:
                entry = flow.first
                cost = weight(entry.count, entry.size)
                if cost > flow.credit:
                    break
                if taken and (count + entry.count > max_count or size + entry.size > max_bytes):
                    # The batch is full in the middle of a turn, which goes on in the next one.
                    return taken
                del flow.entries[entry]
                flow.credit -= cost
                self._uncount(entry)
                taken.append(entry)
                count += entry.count
                size += entry.size
            self._pass_on(flow)
        return taken

    def _pass_on(self, flow: _Flow[EntryT]) -> None:
        """End a turn. Credit is kept only by who waits for more of it."""
        if flow.entries:
            self._round.rotate(-1)
            self._granted = False
        else:
            self._end(flow)

    def _end(self, flow: _Flow[EntryT]) -> None:
        if self._round[0] is flow:
            self._round.popleft()
            self._granted = False
        else:
            self._round.remove(flow)
        del self._flows[flow.key]

    def _uncount(self, entry: EntryT) -> None:
        self.count -= entry.count
        self.size -= entry.size
