"""Which process is killed when: random, and the same again for the same seed."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

SERVICES: Final = ("identity", "consent", "enrich")
KAFKA: Final = "kafka"
KINDS: Final = (*SERVICES, KAFKA, "gateway")
# Long enough for requests to be at every stage when the kill comes, short enough for many rounds.
_CALM_SECONDS: Final = (0.3, 1.2)
_DOWN_SECONDS: Final = (0.0, 0.3)


@dataclass(frozen=True, slots=True)
class Fault:
    """One round: after so many seconds of load the target is killed, and started again so many seconds later."""

    number: int
    target: str
    calm: float
    down: float


def gateway_name(number: int) -> str:
    """The name of a gateway, counted from 1."""
    return f"gateway-{number}"


def targets(gateways: int, kinds: Collection[str] = KINDS) -> tuple[str, ...]:
    """The processes of a mesh with so many gateways, or those of some kinds."""
    every = (*SERVICES, KAFKA, *(gateway_name(number) for number in range(1, gateways + 1)))
    return tuple(name for name in every if kind(name) in kinds)


def kind(target: str) -> str:
    """What a process is; gateways are one kind."""
    return target.partition("-")[0]


def schedule(seed: int, names: Sequence[str], rounds: int, first: int = 1) -> list[Fault]:
    """The faults of a run, numbered from `first`.

    Dealt from shuffled decks rather than drawn, so that a short run kills every process too: among any
    `2 * len(names) - 1` rounds each is hit.
    """
    # A string seeds by its bytes, the same on every machine.
    chance = random.Random(f"{seed}/{','.join(names)}/{first}")
    faults: list[Fault] = []
    while len(faults) < rounds:
        deck = list(names)
        chance.shuffle(deck)
        faults += [
            Fault(first + len(faults) + place, name, chance.uniform(*_CALM_SECONDS), chance.uniform(*_DOWN_SECONDS))
            for place, name in enumerate(deck)
        ]
    return faults[:rounds]
