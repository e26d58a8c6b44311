"""What the ledger counts for the records of a claim."""

from collections.abc import Iterable

from gateway.claims.claim import Claim, Origin
from gateway.ledger.tally import PUBLISHED, Cell, Tally, add, minute_of


def count_records(tally: Tally, claim: Claim, indices: Iterable[int]) -> None:
    """Add the records with these indices; events as published, refused ones by their reason.

    Counted by source and minute first: a batch has many records, and few sources.
    """
    requests, events, outcomes = claim.requests, claim.events, claim.outcomes
    sources: dict[int, Origin] = {}
    counts: dict[tuple[int, int, int], int] = {}
    for index in indices:
        request = requests[index]
        source = request.source
        outcome = PUBLISHED if index < events else outcomes[index - events]
        place = (id(source), minute_of(request.received_ns), outcome)
        if place in counts:
            counts[place] += 1
        else:
            counts[place] = 1
            sources[id(source)] = source
    for (number, minute, outcome), count in counts.items():
        source = sources[number]
        add(tally, Cell(source.workspace, source.name, minute, outcome), count)
