"""A client that keeps exact books: each event is sent under one message id until some gateway answers 200 for it.

Unlike the SDKs it reads the answer's verdicts, and it knows when each came.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mesh.ids import new_id
from tests.faults.audit import Claims
from tests.faults.http import post

# The edge answers within 9.5 s; a process that is killed answers nothing.
_PATIENCE_SECONDS: Final = 11.0
_RETRY_SECONDS: Final = 0.05
_THINK_SECONDS: Final = 0.15
_MOST_EVENTS: Final = 25
# Of a hundred batches: those of the source whose events consent filters, and those with an event that is rejected.
_FILTERED_PERCENT: Final = 5
_REJECTED_PERCENT: Final = 5
_OK: Final = 200
_FILLING: Final = "x" * 200

Event = dict[str, Any]


@dataclass(slots=True)
class Client:
    """Sends batches to the gateways, to another one after each failure, and notes what it is told.

    Args:
        gateways: their URLs.
        write_key: of a source that collects for every purpose.
        filtered_key: of a source whose purposes nobody has consented to.
        most_retry_seconds: the wait before another attempt doubles up to this.
    """

    gateways: Sequence[str]
    write_key: str
    filtered_key: str
    claims: Claims = field(default_factory=Claims)
    answers: Counter[str] = field(default_factory=Counter)
    """How often what came: a status or an error of the connection."""
    retried: int = 0
    """Events that were sent more than once."""
    most_retry_seconds: float = _RETRY_SECONDS

    async def work(self, stop: asyncio.Event, number: int) -> None:
        """Send one visitor's batch after the other until told to stop; the last one is delivered before it returns."""
        chance = random.Random(number)
        while not stop.is_set():
            events, key = self._some_events(chance)
            await self.deliver(events, key, first=number)
            await asyncio.sleep(chance.uniform(0, _THINK_SECONDS))

    async def probe(self, gateway: int) -> float:
        """Deliver one event through one gateway; the Unix time at which it was acknowledged."""
        event = {"type": "page", "anonymousId": new_id(), "messageId": new_id()}
        return await self.deliver([event], self.write_key, first=gateway, only=True)

    async def deliver(self, events: Sequence[Event], key: str, *, first: int, only: bool = False) -> float:
        """Send until a gateway answers 200, beginning with gateway number `first`; with `only` no other is tried.

        Returns:
            The Unix time of the answer.
        """
        ids = [event["messageId"] for event in events]
        self.claims.sent.update(ids)
        attempt, wait = 0, _RETRY_SECONDS
        while True:
            turn = first if only else first + attempt
            answer = await self._post(self.gateways[turn % len(self.gateways)], events, key)
            if answer is not None:
                break
            attempt += 1
            await asyncio.sleep(wait)
            wait = min(2 * wait, self.most_retry_seconds)
        moment = time.time()
        self.retried += len(ids) if attempt else 0
        verdicts = {entry["messageId"]: entry["verdict"] for entry in answer["events"]}
        for message_id in ids:
            self.claims.tell(message_id, verdicts.get(message_id, "missing"), moment)
        return moment

    async def _post(self, gateway: str, events: Sequence[Event], key: str) -> dict[str, Any] | None:
        """The answer's body; None unless it is a whole 200."""
        batch = json.dumps({"batch": events}).encode()
        try:
            answer = await post(f"{gateway}/v1/batch", batch, user=key, seconds=_PATIENCE_SECONDS)
        except (OSError, EOFError) as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status)] += 1
        body: dict[str, Any] | None = json.loads(answer.body) if answer.status == _OK else None
        return body

    def _some_events(self, chance: random.Random) -> tuple[list[Event], str]:
        """Some events of a new visitor, who may log in, and the write key that they come with."""
        who: dict[str, str] = {"anonymousId": new_id()}
        if chance.random() < 0.5:
            who["userId"] = f"user-{chance.randrange(10_000)}"
        events: list[Event] = [
            {"type": "track", "event": "E", "messageId": new_id(), "properties": {"filling": _FILLING}, **who}
            for _ in range(chance.randint(1, _MOST_EVENTS))
        ]
        draw = chance.randrange(100)
        if draw < _FILTERED_PERCENT:
            return events, self.filtered_key
        if draw < _FILTERED_PERCENT + _REJECTED_PERCENT:
            events[-1]["type"] = "shrug"
        return events, self.write_key
