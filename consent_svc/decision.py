"""The decision: what stands on record for a person, and which purposes that allows.

The newest choice for a purpose wins, and at the same instant the refusal. That is the maximum of (time, refused), so
the order in which entries are folded, and which of a person's merged subjects they came under, makes no difference.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from consent_svc.ledger import Entry
from consent_svc.purpose import NONE, PURPOSES

# A rank is twice the time of the choice in Unix ns, plus one when it is a refusal: comparing ranks compares both.
_NOTHING = -1
_NO_RANKS = (_NOTHING,) * len(PURPOSES)


class Basis(IntEnum):
    """Where a decision comes from; the numbers are those of `clew.consent.v1.ConsentBasis`."""

    DEFAULT = 1
    RECORDED = 2
    RESTRICTED = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands on record for one subject: the newest choice per purpose, and what follows from it."""

    ranks: tuple[int, ...]
    known: int
    granted: int


# Shared by all subjects that nothing is recorded for, so that remembering them costs no object each.
NOTHING_RECORDED = Standing(_NO_RANKS, known=NONE, granted=NONE)


def fold(entries: Iterable[Entry], onto: Standing = NOTHING_RECORDED) -> Standing:
    """Return what stands after some entries, given in any order, are added to what stood before."""
    ranks = onto.ranks
    for entry in entries:
        ranks = tuple(map(max, ranks, _ranks(entry)))
    return onto if ranks == onto.ranks else _standing(ranks)


def join(standings: Iterable[Standing]) -> Standing:
    """Return what stands for a person who is known under several subjects."""
    ranks = _NO_RANKS
    for standing in standings:
        if standing is not NOTHING_RECORDED:
            ranks = tuple(map(max, ranks, standing.ranks))
    return NOTHING_RECORDED if ranks == _NO_RANKS else _standing(ranks)


def decide(standing: Standing, withheld: int, essential: int) -> tuple[int, Basis]:
    """Return the mask of the allowed purposes and where it comes from.

    Args:
        standing: what is on record.
        withheld: the purposes that preferences presented with the event take away.
        essential: the purposes that are allowed as long as nothing is on record for them.
    """
    allowed = standing.granted | (essential & ~standing.known)
    if allowed & withheld:
        return allowed & ~withheld, Basis.RESTRICTED
    return allowed, Basis.RECORDED if standing.known else Basis.DEFAULT


def _ranks(entry: Entry) -> tuple[int, ...]:
    granted, denied = 2 * entry.effective_ns, 2 * entry.refused_ns + 1
    return tuple(
        denied if entry.denied >> purpose & 1 else granted if entry.granted >> purpose & 1 else _NOTHING
        for purpose in PURPOSES
    )


def _standing(ranks: tuple[int, ...]) -> Standing:
    known = granted = NONE
    for purpose, rank in zip(PURPOSES, ranks, strict=True):
        if rank != _NOTHING:
            known |= 1 << purpose
            granted |= (not rank & 1) << purpose
    return Standing(ranks, known, granted)
