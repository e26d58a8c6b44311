"""Does a person's order hold? Visitors come anonymously, log in and go on, through mixed clients and two gateways.

Each visitor makes 21 calls: ten anonymous, `identify`, ten known. Their order on the topic is compared with the order
in which they were made, within each Kafka key: a record that comes after one of the same visitor that was made later is
an inversion.

Only what a client sends one after the other has an order. The Python libraries and our own client do so; libraries
for Node.js and browsers have several requests under way, and nobody can say which arrives first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from mesh.ids import new_id
from tests.e2e.sdk.drivers import PYTHON_DRIVERS
from tests.faults.audit import Claims
from tests.faults.load import Client
from tests.faults.mesh import FaultMesh
from tests.faults.topic import read_all
from tests.support.topics import EVENTS

ANONYMOUS_CALLS: Final = 10
KNOWN_CALLS: Final = 10
CALLS: Final = ANONYMOUS_CALLS + 1 + KNOWN_CALLS
_BATCH: Final = 5
# Visitors who are on the site at the same time: their calls are mixed.
_AT_A_TIME: Final = 20
_SEND_SECONDS: Final = 120.0
_OWN_CLIENT: Final = "own client"
_CLIENTS: Final = (*PYTHON_DRIVERS, _OWN_CLIENT)

Call = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Visitor:
    """One of them.

    Attributes:
        client: Index in `_CLIENTS` of the client that makes the calls.
        gateway: The gateway that the client sends to.
        moves: From the login on another client sends, to the other gateway, once everything before is acknowledged.
        returns: The user is known from before, so that the login merges two profiles.
    """

    number: int
    client: int
    gateway: int
    moves: bool
    returns: bool

    @classmethod
    def make(cls, number: int) -> "Visitor":
        """Every combination comes up equally often."""
        rest, client = divmod(number, len(_CLIENTS))
        return cls(number, client, rest % 2, bool(rest // 2 % 2), bool(rest // 4 % 2))

    def sender(self, *, known: bool) -> tuple[int, int]:
        """The client and the gateway of one half of the calls."""
        if known and self.moves:
            return (self.client + 1) % len(_CLIENTS), 1 - self.gateway
        return self.client, self.gateway

    def calls(self, numbers: Iterable[int]) -> list[tuple[int, int, Call]]:
        """Some of the calls, each after the visitor's number and its own."""
        return [(self.number, number, self._call(number)) for number in numbers]

    def _call(self, number: int) -> Call:
        who = {"anonymousId": f"visitor-{self.number}"}
        if number >= ANONYMOUS_CALLS:
            who["userId"] = f"person-{self.number}"
        if number == ANONYMOUS_CALLS:
            return {"type": "identify", "traits": {"plan": "pro"}, **who}
        return {"type": "track", "event": "E", "properties": {"number": number}, **who}


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a call: its key and position on the topic, and which call of which visitor it is."""

    key: str
    partition: int
    offset: int
    visitor: int
    number: int


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What was found.

    Attributes:
        inversions: Records that come after a later call of the same visitor under the same key.
        split: Visitors whose calls stand under more than one key, because a login merged two profiles; nothing is said
            about their order from one key to the other.
        missing: Calls that are not on the topic.
        doubled: Calls that are there more than once; the first one counts.
    """

    visitors: int
    calls: int
    inversions: int
    split: int
    missing: int
    doubled: int

    def as_dict(self) -> dict[str, int]:
        """For the results' file."""
        return asdict(self)


def figures(entries: Sequence[Entry], visitors: int) -> OrderFigures:
    """Count; the entries in any order."""
    first: dict[tuple[int, int], Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.partition, entry.offset)):
        first.setdefault((entry.visitor, entry.number), entry)
    highest: dict[tuple[int, str], int] = {}
    keys: dict[int, set[str]] = defaultdict(set)
    inversions = 0
    for entry in first.values():
        keys[entry.visitor].add(entry.key)
        seen = highest.get((entry.visitor, entry.key), -1)
        inversions += entry.number < seen
        highest[entry.visitor, entry.key] = max(seen, entry.number)
    return OrderFigures(
        visitors=visitors,
        calls=visitors * CALLS,
        inversions=inversions,
        split=sum(len(found) > 1 for found in keys.values()),
        missing=visitors * CALLS - len(first),
        doubled=len(entries) - len(first),
    )


async def play(mesh: FaultMesh, count: int) -> OrderFigures:
    """Let so many visitors come through both gateways of a mesh, and look at what is on the topic.

    Raises:
        DeliveryError: A library did not deliver.
    """
    visitors = [Visitor.make(number) for number in range(count)]
    calls: dict[str, tuple[int, int]] = {}
    client = Client(mesh.gateways, mesh.write_key, mesh.filtered_key, Claims())
    try:
        await _introduce(client, visitors)
        first = [(visitor, range(ANONYMOUS_CALLS if visitor.moves else CALLS), False) for visitor in visitors]
        second = [(visitor, range(ANONYMOUS_CALLS, CALLS), True) for visitor in visitors if visitor.moves]
        for phase in (first, second):
            calls |= await _send(mesh, client, phase)
    finally:
        await client.close()
    return figures(await asyncio.to_thread(_entries, mesh.kafka, calls), count)


async def _introduce(client: Client, visitors: Sequence[Visitor]) -> None:
    """Make profiles of the users who are to be known from before."""
    events = [
        {"type": "identify", "messageId": new_id(), "anonymousId": new_id(), "userId": f"person-{visitor.number}"}
        for visitor in visitors
        if visitor.returns
    ]
    for start in range(0, len(events), 100):
        await client.deliver(events[start : start + 100], client.write_key, first=0)


async def _send(
    mesh: FaultMesh, client: Client, phase: Sequence[tuple[Visitor, range, bool]]
) -> dict[str, tuple[int, int]]:
    """Make the calls of one phase, every sender at the same time; by message id, which call of whom it was."""
    jobs: dict[tuple[int, int], list[tuple[int, int, Call]]] = defaultdict(list)
    for visitor, numbers, known in phase:
        jobs[visitor.sender(known=known)] += visitor.calls(numbers)
    async with asyncio.TaskGroup() as tasks:
        sending = [
            tasks.create_task(_deliver(mesh, client, sender, _mixed(job))) for sender, job in jobs.items() if job
        ]
    return {message_id: call for task in sending for message_id, call in task.result().items()}


def _mixed(job: list[tuple[int, int, Call]]) -> list[tuple[int, int, Call]]:
    """The calls of visitors who are there at the same time take turns; each one's keep their order."""
    rank = {visitor: place // _AT_A_TIME for place, visitor in enumerate(dict.fromkeys(call[0] for call in job))}
    return sorted(job, key=lambda call: (rank[call[0]], call[1]))


async def _deliver(
    mesh: FaultMesh, client: Client, sender: tuple[int, int], job: list[tuple[int, int, Call]]
) -> dict[str, tuple[int, int]]:
    name, gateway = _CLIENTS[sender[0]], sender[1]
    if name == _OWN_CLIENT:
        ids = await _deliver_ourselves(client, gateway, [call for _, _, call in job])
    else:
        driver = PYTHON_DRIVERS[name]
        calls = [call for _, _, call in job]
        ids = await asyncio.to_thread(
            driver.send, mesh.gateways[gateway], mesh.write_key, calls, timeout_seconds=_SEND_SECONDS
        )
    return {message_id: (visitor, number) for message_id, (visitor, number, _) in zip(ids, job, strict=True)}


async def _deliver_ourselves(client: Client, gateway: int, calls: Sequence[Call]) -> list[str]:
    """One small batch after the other, so that a visitor's calls are spread over many requests."""
    events = [{**call, "messageId": new_id()} for call in calls]
    for start in range(0, len(events), _BATCH):
        await client.deliver(events[start : start + _BATCH], client.write_key, first=gateway, only=True)
    return [event["messageId"] for event in events]


def _entries(kafka: str, calls: dict[str, tuple[int, int]]) -> list[Entry]:
    entries = []
    for record in read_all(kafka, EVENTS):
        call = calls.get(dict(record.headers())["clew-message-id"].decode())
        if call is not None:
            entries.append(Entry(record.key().decode(), record.partition(), record.offset(), *call))
    return entries
