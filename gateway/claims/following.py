"""What a copy of an event does while the one before it is under way: it waits for its outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from gateway.batch import Admitted, Claimed, Follower, Owned
from gateway.claims.outcomes import refuse_undecided, settle_duplicate, settle_filtered
from gateway.claims.port import Held

FOLLOW_SECONDS: Final = 1.0
"""How long a copy waits for the outcome of the one before it. Its whole batch waits along, so it is short."""
_ASK_SECONDS: Final = 0.05

Look = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, Held]]]
"""Asks a store who has claimed or published what, without claiming anything: `ClaimStore.look`."""


async def follow(claimed: Claimed, look: Look) -> Admitted | None:
    """Wait for the copies that came before, see `Claims.follow`."""
    if not claimed.followers:
        return None
    # Where Kafka did not answer this batch, it will not answer the copies before it soon.
    until = time.monotonic() + (0.0 if claimed.claim.unknown else FOLLOW_SECONDS)
    again: list[Owned] = []
    elsewhere: list[Follower] = []
    for follower in claimed.followers:
        owned, key, leader = follower
        if leader is None:
            elsewhere.append(follower)
        elif not await leader.wait(until - time.monotonic()):
            refuse_undecided(owned)
        elif leader.published(key):
            settle_duplicate(claimed, owned)
        elif key in leader.filtered:
            settle_filtered(claimed, owned)
        else:
            again.append(owned)
    if elsewhere:
        again += await _ask(claimed, elsewhere, until, look)
    return Admitted(claimed.workspace, [], again) if again else None


async def _ask(claimed: Claimed, followers: list[Follower], until: float, look: Look) -> list[Owned]:
    """Ask the store about what other gateways have claimed until it knows; those that are to be tried again."""
    again: list[Owned] = []
    while followers and time.monotonic() < until:
        await asyncio.sleep(_ASK_SECONDS)
        # Only looked at: nobody would give back what was claimed here by a batch that is cancelled or out of tries.
        held = await look([follower.key for follower in followers])
        waiting: list[Follower] = []
        for follower in followers:
            match held.get(follower.key):
                case Held.ELSEWHERE:
                    waiting.append(follower)
                case Held.PUBLISHED:
                    settle_duplicate(claimed, follower.owned)
                case None:
                    # Nobody's now: whoever tries again claims it.
                    again.append(follower.owned)
        followers = waiting
    for follower in followers:
        refuse_undecided(follower.owned)
    return again
