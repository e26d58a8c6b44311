"""What becomes of an event that is not published, said to its request and to the ledger."""

from typing import Final

from clew.collector.v1.collector_service_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_DUPLICATE,
    VERDICT_FILTERED,
    FilterReason,
)
from gateway.batch import Claimed, Outcome, Owned
from gateway.ledger.tally import DUPLICATE, filtered
from mesh.errors import BusUnavailable

_FILTERED: Final = filtered(FilterReason.FILTER_REASON_CONSENT)


def settle_duplicate(claimed: Claimed, owned: Owned) -> None:
    """The event is on the topic already."""
    event, submission = owned
    if submission.again:
        # Its own record, which was counted when Kafka acknowledged it or when the topic was read.
        submission.outcomes[event.index] = Outcome(event.message_id, VERDICT_ACCEPTED)
        return
    submission.outcomes[event.index] = Outcome(
        event.message_id, VERDICT_DUPLICATE, detail="an event with this message id is on the topic already"
    )
    claimed.unpublished.append((submission, DUPLICATE))


def settle_filtered(claimed: Claimed, owned: Owned) -> None:
    """Consent allows none of the purposes that the event's source collects for."""
    event, submission = owned
    claimed.unpublished.append((submission, _FILTERED))
    submission.outcomes[event.index] = Outcome(
        event.message_id,
        VERDICT_FILTERED,
        filter_reason=FilterReason.FILTER_REASON_CONSENT,
        detail="consent allows none of the purposes that the source collects for",
    )


def is_filtered(owned: Owned) -> bool:
    """Whether consent has left the event out."""
    event, submission = owned
    outcome = submission.outcomes.get(event.index)
    return outcome is not None and outcome.verdict == VERDICT_FILTERED


def refuse_undecided(owned: Owned) -> None:
    """Nobody knows yet what becomes of another copy of the event: its request is refused alone."""
    owned.submission.error = BusUnavailable(
        "another copy of an event is under way and its outcome is not known yet; send the same events again"
    )
