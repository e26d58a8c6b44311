"""Does a person's order hold? Visitors come anonymously, log in and go on, through mixed clients and two gateways.

Each visitor makes 21 calls: ten anonymous, `identify`, ten known. The order in which a consumer processes them, by the
documented rule, is compared with the order in which they were made (`tests/faults/reading.py`): one that comes after a
later one of the same visitor is an inversion.

Only what a client sends one after the other has an order. The Python libraries and our own client do so; libraries
for Node.js and browsers have several requests under way, and nobody can say which arrives first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mesh.ids import new_id
from tests.e2e.sdk.drivers import PYTHON_DRIVERS
from tests.faults.audit import Claims
from tests.faults.load import Client
from tests.faults.reading import Made, OrderFigures, figures, read_topics

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


class Place(Protocol):
    """A mesh with gateways that visitors can come through."""

    @property
    def gateways(self) -> Sequence[str]:
        """The URLs of the edges, at least two."""

    @property
    def write_key(self) -> str:
        """The key that the calls come with."""

    @property
    def kafka(self) -> str:
        """Where Kafka is, `HOST:PORT`."""


async def play(mesh: Place, count: int) -> OrderFigures:
    """Let so many visitors come through both gateways of a mesh, and look at what is on the topic.

    Raises:
        DeliveryError: A library did not deliver.
    """
    visitors = [Visitor.make(number) for number in range(count)]
    calls: dict[str, Made] = {}
    client = Client(mesh.gateways, mesh.write_key, "", Claims())
    await _introduce(client, visitors)
    first = [(visitor, range(ANONYMOUS_CALLS if visitor.moves else CALLS), False) for visitor in visitors]
    second = [(visitor, range(ANONYMOUS_CALLS, CALLS), True) for visitor in visitors if visitor.moves]
    for phase in (first, second):
        calls |= await _send(mesh, client, phase)
    events, aliases = await asyncio.to_thread(read_topics, mesh.kafka, calls)
    return await asyncio.to_thread(figures, events, aliases, count, CALLS)


async def _introduce(client: Client, visitors: Sequence[Visitor]) -> None:
    """Make profiles of the users who are to be known from before."""
    events = [
        {"type": "identify", "messageId": new_id(), "anonymousId": new_id(), "userId": f"person-{visitor.number}"}
        for visitor in visitors
        if visitor.returns
    ]
    for start in range(0, len(events), 100):
        await client.deliver(events[start : start + 100], client.write_key, first=0)


async def _send(mesh: Place, client: Client, phase: Sequence[tuple[Visitor, range, bool]]) -> dict[str, Made]:
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
    mesh: Place, client: Client, sender: tuple[int, int], job: list[tuple[int, int, Call]]
) -> dict[str, Made]:
    name, gateway = _CLIENTS[sender[0]], sender[1]
    if name == _OWN_CLIENT:
        ids = await _deliver_ourselves(client, gateway, [call for _, _, call in job])
    else:
        driver = PYTHON_DRIVERS[name]
        calls = [call for _, _, call in job]
        ids = await asyncio.to_thread(
            driver.send, mesh.gateways[gateway], mesh.write_key, calls, timeout_seconds=_SEND_SECONDS
        )
    return {message_id: Made(visitor, number) for message_id, (visitor, number, _) in zip(ids, job, strict=True)}


async def _deliver_ourselves(client: Client, gateway: int, calls: Sequence[Call]) -> list[str]:
    """One small batch after the other, so that a visitor's calls are spread over many requests."""
    events = [{**call, "messageId": new_id()} for call in calls]
    for start in range(0, len(events), _BATCH):
        await client.deliver(events[start : start + _BATCH], client.write_key, first=gateway, only=True)
    return [event["messageId"] for event in events]
