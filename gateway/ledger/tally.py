"""Counts of events as they are added up: by workspace, source, minute and outcome.

received = published + duplicate + rejected(reason) + filtered(reason) + in flight.

`received` is counted by itself, when an event's outcome is known, so that an outcome that went missing shows.
"""

from typing import Final, NamedTuple

from clew.collector.v1.collector_service_pb2 import FilterReason
from clew.event.v1.failed_event_pb2 import FAILURE_REASON_DUPLICATE_MESSAGE_ID, FailureReason

RECEIVED: Final = 0
PUBLISHED: Final = 1
DUPLICATE: Final = 2
# Reasons are numbers of the contract's enums, which are never given to another meaning.
_REJECTED: Final = 1_000
_FILTERED: Final = 2_000

_MINUTE_NS: Final = 60_000_000_000


class Cell(NamedTuple):
    """One count's place: `minute` is minutes since the Unix epoch, when the gateway received the events."""

    workspace: str
    source: str
    minute: int
    outcome: int


Tally = dict[Cell, int]
"""How many events to add to which cells."""


def rejected(reason: FailureReason.ValueType) -> int:
    """The outcome of an event that lies on the failed topic; one that repeats another of its request is a duplicate."""
    return DUPLICATE if reason == FAILURE_REASON_DUPLICATE_MESSAGE_ID else _REJECTED + reason


def filtered(reason: FilterReason.ValueType) -> int:
    """The outcome of an event that was not kept."""
    return _FILTERED + reason


def failure_reason(outcome: int) -> int | None:
    """Why it was rejected, a number of `FailureReason`; None when it was not."""
    return outcome - _REJECTED if _REJECTED <= outcome < _FILTERED else None


def filter_reason(outcome: int) -> int | None:
    """Why it was filtered, a number of `FilterReason`; None when it was not."""
    return outcome - _FILTERED if outcome >= _FILTERED else None


def minute_of(unix_ns: int) -> int:
    """The minute that a time belongs to."""
    return unix_ns // _MINUTE_NS


def add(tally: Tally, cell: Cell, count: int = 1) -> None:
    """Count events whose outcome is known: as received, and as what became of them."""
    for each in (cell._replace(outcome=RECEIVED), cell):
        tally[each] = tally.get(each, 0) + count
