"""Store and forward: any series of outages, at random."""

import asyncio
import random
from collections import defaultdict
from pathlib import Path

import pytest

from gateway.ledger.tally import PUBLISHED, RECEIVED
from tests.gateway.claims.test_claims import ledger
from tests.gateway.spool.forwarding import (
    DOWN,
    Door,
    a_door,
    records,
    track,
)


async def _visit(door: Door, visitor: str, events: int, sent: dict[str, list[str]]) -> None:
    """One event after the other, each once the one before was answered; refused ones are sent again."""
    for number in range(events):
        message_id = f"{visitor}-{number}"
        await door.send(track(message_id, anonymousId=visitor))
        sent[visitor].append(message_id)


async def _break(door: Door, chance: random.Random, done: asyncio.Event) -> None:
    """Outages of all kinds, one after the other."""
    while not done.is_set():
        await asyncio.sleep(chance.uniform(0.0, 0.2))
        match chance.randrange(4):
            case 0:
                door.stage.identity.script.error = DOWN
            case 1:
                door.stage.consent.script.error = DOWN
            case 2:
                door.stage.bus.stop()
            case _:
                door.stage.enrich.script.gate.clear()
        await asyncio.sleep(chance.uniform(0.0, 0.8))
        door.stage.identity.script.error = door.stage.consent.script.error = None
        door.stage.enrich.script.gate.set()
        door.stage.bus.start()


@pytest.mark.parametrize("seed", range(4))
async def test_any_series_of_outages_keeps_everything_in_order(tmp_path: Path, seed: int) -> None:
    """Visitors that send one after the other see no error; each of their events is there once, in their order."""
    sent: dict[str, list[str]] = defaultdict(list)
    done = asyncio.Event()
    async with a_door(tmp_path / "spool", patience=0.2) as door:
        breaking = asyncio.create_task(_break(door, random.Random(seed), done))
        await asyncio.gather(*(_visit(door, f"v{number}", 60, sent) for number in range(12)))
        done.set()
        await breaking
        await door.drained()
        found: dict[str, list[str]] = defaultdict(list)
        for record in records(door.stage):
            found[record.anonymous_id].append(record.message_id)
        assert found == sent
        counts = await ledger(door.stage)
        assert counts == {RECEIVED: 12 * 60, PUBLISHED: 12 * 60}
        assert door.counts() == {"received": 720, "accepted": 720, "requests": 720}
