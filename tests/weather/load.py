"""The load: visitors who send one batch after the other, and probes that say how long an answer takes.

A visitor's next batch leaves when the one before was answered with 200, at whichever gateway; so there is an order to
be kept. Probes leave at fixed moments whether or not answers come, and their time counts from the moment at which they
should have left until some gateway has acknowledged them, retries included: what a client sees, outages in full.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from mesh.ids import new_id
from tests.faults.load import Client
from tests.weather.figures import Probe

VISITORS: Final = 12
PROBES_A_SECOND: Final = 10
_THINK_SECONDS: Final = 0.2
_MOST_EVENTS: Final = 10
# What is under way when a fault's time is over.
_FINISH_SECONDS: Final = 60.0


@dataclass(slots=True)
class Load:
    """What was sent during one fault, and what became of it as far as clients know.

    Args:
        stay: Each visitor stays with one gateway.

    Attributes:
        journeys: The message ids of each visitor, in the order in which they were sent.
        probes: Those that were acknowledged.
        waiting: When those that were not yet were due.
    """

    client: Client
    stay: bool = False
    journeys: list[list[str]] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    waiting: set[float] = field(default_factory=set)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send; at the end all that was begun is acknowledged.

        Raises:
            TimeoutError: It is not, within a minute.
        """
        async with asyncio.TaskGroup() as tasks:
            sending = [tasks.create_task(self._visit(number)) for number in range(VISITORS)]
            sending.append(tasks.create_task(self._probe_on()))
            try:
                yield
            finally:
                self._stop.set()
            async with asyncio.timeout(_FINISH_SECONDS):
                await asyncio.gather(*sending)

    def overdue(self, moment: float) -> bool:
        """Whether something that was due before a moment is not acknowledged yet."""
        return min(self.waiting, default=moment) < moment

    async def _visit(self, number: int) -> None:
        visitor, chance = new_id(), random.Random(number)
        journey: list[str] = []
        self.journeys.append(journey)
        while not self._stop.is_set():
            ids = [new_id() for _ in range(chance.randint(1, _MOST_EVENTS))]
            journey += ids
            events = [{"type": "track", "event": "E", "messageId": each, "anonymousId": visitor} for each in ids]
            first = number if self.stay else chance.randrange(len(self.client.gateways))
            await self.client.deliver(events, self.client.write_key, first=first, only=self.stay)
            await asyncio.sleep(chance.uniform(0, _THINK_SECONDS))

    async def _probe_on(self) -> None:
        due, number = time.time(), 0
        async with asyncio.TaskGroup() as tasks:
            while not self._stop.is_set():
                tasks.create_task(self._probe(due, number))
                due, number = due + 1 / PROBES_A_SECOND, number + 1
                await asyncio.sleep(max(0.0, due - time.time()))

    async def _probe(self, due: float, number: int) -> None:
        event = {"type": "page", "anonymousId": new_id(), "messageId": new_id()}
        self.waiting.add(due)
        acknowledged = await self.client.deliver([event], self.client.write_key, first=number)
        self.waiting.remove(due)
        self.probes.append(Probe(due, acknowledged))
