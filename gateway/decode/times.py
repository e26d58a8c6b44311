"""When did it happen? Client timestamps read, and weighed against our own clock.

All times are Unix nanoseconds. Segment's formula (`receivedAt - (sentAt - originalTimestamp)`) is applied only where
the client's clock is certainly wrong, for it folds the delay of the network in and can turn the order of events round.
"""

import re
from datetime import UTC, datetime
from typing import Final

from clew.event.v1.enriched_event_pb2 import (
    EVENT_TIME_SOURCE_ORIGINAL,
    EVENT_TIME_SOURCE_RECEIVED,
    EVENT_TIME_SOURCE_SENT,
    EVENT_TIME_SOURCE_SKEW_CORRECTED,
    EventTimeSource,
)

CLOCK_TOLERANCE_NS: Final = 300 * 1_000_000_000
"""A client's clock may differ from ours by five minutes before we distrust it: transit and queues take as long."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FINER_THAN_MICROSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
# Unix seconds up to the year 5138 stay below this, and milliseconds since 1973 above it.
_LEAST_MILLISECONDS: Final = 100_000_000_000
_LEAST_SECONDS: Final = 100_000_000
# The ends of protobuf's Timestamp: the years 1 and 10000.
_MOST_MILLISECONDS: Final = 253_402_300_800_000
_END_NS: Final = _MOST_MILLISECONDS * 1_000_000
_BEGIN_NS: Final = -62_135_596_800 * 1_000_000_000


def parse_time(value: object) -> int | None:
    """Read a timestamp: ISO 8601 text (UTC where it names no zone), Unix seconds or Unix milliseconds.

    Fractions keep nanoseconds. None: it is none of these.
    """
    if type(value) is str:
        return _parse_text(value)
    if type(value) is int or type(value) is float:
        return _parse_number(value)
    return None


def valid_time(time_ns: int) -> int | None:
    """A time that protobuf's Timestamp can hold (the years 1 to 9999), or None."""
    return time_ns if _BEGIN_NS <= time_ns < _END_NS else None


def _parse_text(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    nanoseconds = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    # Python reads six digits and drops the rest, which Go and Java clients send; the seventh stands at 26.
    if text[26:27].isdecimal() and (finer := _FINER_THAN_MICROSECONDS.search(text)):
        nanoseconds += int(finer[1].ljust(3, "0"))
    return valid_time(nanoseconds)


def _parse_number(number: float) -> int | None:
    if _LEAST_MILLISECONDS <= number < _MOST_MILLISECONDS:
        return int(number * 1_000) * 1_000
    if _LEAST_SECONDS <= number < _LEAST_MILLISECONDS:
        return int(number * 1_000_000) * 1_000
    return None


def resolve_event_time(
    original_ns: int | None, sent_ns: int | None, received_ns: int
) -> tuple[int, EventTimeSource.ValueType]:
    """Derive the best estimate of when an event happened, and say how.

    The client's own time holds unless its clock is off by more than five minutes (sent against received): then it is
    moved by the difference. A time in the future, or before 1970, cannot be believed: the time of receipt replaces it.
    """
    skew = 0 if sent_ns is None else received_ns - sent_ns
    skewed = skew > CLOCK_TOLERANCE_NS or skew < -CLOCK_TOLERANCE_NS
    if original_ns is None:
        if sent_ns is None or skewed:
            return received_ns, EVENT_TIME_SOURCE_RECEIVED
        return sent_ns, EVENT_TIME_SOURCE_SENT
    moment = original_ns + skew if skewed else original_ns
    if not 0 <= moment <= received_ns + CLOCK_TOLERANCE_NS:
        return received_ns, EVENT_TIME_SOURCE_RECEIVED
    return moment, EVENT_TIME_SOURCE_SKEW_CORRECTED if skewed else EVENT_TIME_SOURCE_ORIGINAL
