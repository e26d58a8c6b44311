"""Client timestamps, and the estimate of when an event happened."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from clew.event.v1.enriched_event_pb2 import (
    EVENT_TIME_SOURCE_ORIGINAL,
    EVENT_TIME_SOURCE_RECEIVED,
    EVENT_TIME_SOURCE_SENT,
    EVENT_TIME_SOURCE_SKEW_CORRECTED,
)
from gateway.decode.times import parse_time, resolve_event_time

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
NOW = 1_795_446_670 * SECOND  # 2026-11-23T15:11:10Z


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-23T15:11:10Z", NOW),
        ("2026-11-23T15:11:10.000Z", NOW),
        ("2026-11-23T16:11:10+01:00", NOW),
        ("2026-11-23T16:11:10+0100", NOW),
        ("2026-11-23T15:11:10", NOW),
        ("2026-11-23 15:11:10", NOW),
        ("2026-11-23T15:11:10.5Z", NOW + SECOND // 2),
        ("2026-11-23T15:11:10.123456+00:00", NOW + 123_456_000),
        ("2026-11-23T15:11:10.123456789Z", NOW + 123_456_789),
        ("2026-11-23T15:11:10.1234567Z", NOW + 123_456_700),
        ("2026-11-23T15:11:10.1234567891Z", NOW + 123_456_789),
        ("2026-11-23", NOW - (15 * 3_600 + 11 * 60 + 10) * SECOND),
        ("1969-12-31T23:59:59.123456789Z", -SECOND + 123_456_789),
        (1_795_446_670, NOW),
        (1_795_446_670_000, NOW),
        (1_795_446_670.5, NOW + SECOND // 2),
        (1_795_446_670_123.0, NOW + 123_000_000),
        ("", None),
        ("yesterday", None),
        ("2026-13-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        (0, None),
        (-1, None),
        (10**30, None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        ({}, None),
        ([], None),
    ],
)
def test_timestamps(value: object, expected: int | None) -> None:
    """ISO 8601 in the forms that clients write, and Unix seconds or milliseconds; all else is unreadable."""
    assert parse_time(value) == expected


@given(st.datetimes(timezones=st.timezones()))
def test_every_time_that_python_writes_is_read_exactly(moment: datetime) -> None:
    """What a client writes with microseconds comes out with microseconds, and fits protobuf's Timestamp."""
    read = parse_time(moment.isoformat())
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    if read is None:
        assert not 1 < moment.year < 9999
        return
    assert timedelta(microseconds=read // 1_000) == since
    Timestamp(seconds=read // SECOND, nanos=read % SECOND).ToJsonString()


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans())
def test_no_value_is_too_strange(value: object) -> None:
    """A timestamp is read or it is not; nothing raises."""
    assert parse_time(value) is None or isinstance(parse_time(value), int)


@pytest.mark.parametrize(
    ("original", "sent", "expected", "source"),
    [
        (None, None, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (None, NOW - SECOND, NOW - SECOND, EVENT_TIME_SOURCE_SENT),
        (None, NOW - HOUR, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (None, NOW + HOUR, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (NOW - SECOND, None, NOW - SECOND, EVENT_TIME_SOURCE_ORIGINAL),
        (NOW - 1_000 * HOUR, NOW - SECOND, NOW - 1_000 * HOUR, EVENT_TIME_SOURCE_ORIGINAL),
        (NOW - 400 * SECOND, NOW - 300 * SECOND, NOW - 400 * SECOND, EVENT_TIME_SOURCE_ORIGINAL),
        (NOW - 401 * SECOND, NOW - 301 * SECOND, NOW - 100 * SECOND, EVENT_TIME_SOURCE_SKEW_CORRECTED),
        (NOW + HOUR - SECOND, NOW + HOUR, NOW - SECOND, EVENT_TIME_SOURCE_SKEW_CORRECTED),
        (NOW - HOUR - SECOND, NOW - HOUR, NOW - SECOND, EVENT_TIME_SOURCE_SKEW_CORRECTED),
        (NOW + 300 * SECOND, None, NOW + 300 * SECOND, EVENT_TIME_SOURCE_ORIGINAL),
        (NOW + 301 * SECOND, None, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (NOW + 301 * SECOND, NOW, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (NOW + HOUR, NOW - HOUR, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (-1, None, NOW, EVENT_TIME_SOURCE_RECEIVED),
        (-62_135_596_800 * SECOND, NOW, NOW, EVENT_TIME_SOURCE_RECEIVED),
    ],
)
def test_event_time(original: int | None, sent: int | None, expected: int, source: int) -> None:
    """The client's clock is believed within five minutes, corrected beyond, and never leads into the future."""
    assert resolve_event_time(original, sent, NOW) == (expected, source)


@given(st.none() | st.integers(-(10**19), 10**19), st.none() | st.integers(-(10**19), 10**19))
def test_event_time_is_never_before_1970_nor_in_the_future(original: int | None, sent: int | None) -> None:
    """Whatever clients claim, the estimate is a time that a consumer can work with."""
    event_time, source = resolve_event_time(original, sent, NOW)
    assert 0 <= event_time <= NOW + 300 * SECOND
    assert source


@given(st.integers(0, NOW), st.integers(0, NOW), st.integers(NOW - 300 * SECOND, NOW))
def test_order_is_kept_within_the_tolerance(first: int, second: int, sent: int) -> None:
    """Transit never turns the order of two events round, as Segment's formula does."""
    assert (first <= second) == (resolve_event_time(first, sent, NOW)[0] <= resolve_event_time(second, sent, NOW)[0])
