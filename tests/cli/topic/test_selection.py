"""Which records are meant: what an operator types, read strictly."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from clew.event.v1.failed_event_pb2 import FailureReason
from cli.main import app
from cli.topic.selection import (
    REASONS,
    SHORT_NAMES,
    Asked,
    BadSelection,
    Range,
    Selection,
    parse_range,
    parse_reason,
    parse_time,
    topic_name,
)
from cli.topics import declared_topics

NOW = datetime(2026, 11, 26, 2, 30, tzinfo=UTC)
NOW_MS = 1_795_660_200_000
FIRST, LAST = (datetime(year, 1, 2, tzinfo=UTC).replace(tzinfo=None) for year in (1970, 2200))
UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
RANGES = st.builds(
    lambda partition, first, length: Range(partition, first, None if length is None else first + length),
    st.integers(0, 10**6),
    st.integers(0, 10**12),
    st.none() | st.integers(0, 10**6),
)


def test_short_names_are_those_of_the_topics_that_are_declared() -> None:
    """Help and errors list these and no other."""
    declared = [topic.name for topic in declared_topics().topics]
    assert list(SHORT_NAMES.values()) == declared
    assert list(SHORT_NAMES) == ["events", "failed", "profiles", "audit"]
    names = ", ".join(SHORT_NAMES)
    with pytest.raises(BadSelection, match=f"short names are {names}$"):
        topic_name("a/b")
    for command in ("read", "replay"):
        help_ = CliRunner().invoke(app, ["topic", command, "--help"], env={"COLUMNS": "200"}).stdout
        assert f"{names}, or a full name." in help_


@given(RANGES, st.integers(0, 10**12))
def test_a_range_is_read_as_it_is_written(wanted: Range, offset: int) -> None:
    """Both ends are included, and an open end has none."""
    read = parse_range(str(wanted))
    assert read == wanted
    assert (offset in read) == (wanted.first <= offset and (wanted.last is None or offset <= wanted.last))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", Range(3)),
        ("3:17", Range(3, 17, 17)),
        ("3:10-20", Range(3, 10, 20)),
        ("3:10-", Range(3, 10)),
        ("3:-20", Range(3, 0, 20)),
        ("0:0", Range(0, 0, 0)),
    ],
)
def test_ranges_have_short_forms(text: str, expected: Range) -> None:
    """A partition, one offset, an open end."""
    assert parse_range(text) == expected


@given(st.text(alphabet="0123456789:- \uff11a", max_size=8))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    """Nothing else happens, and what is read means what stands there."""
    try:
        read = parse_range(text)
    except BadSelection:
        return
    place, last = f"{read.partition}:{read.first}", "" if read.last is None else read.last
    spelled = {f"{place}-{last}"}
    if not read.first:
        spelled |= {f"{read.partition}:-{last}"} if last != "" else {str(read.partition)}
    if read.last == read.first:
        spelled.add(place)
    assert re.sub(r"\d+", lambda digits: str(int(digits[0])), text) in spelled
    assert read.last is None or read.last >= read.first


@pytest.mark.parametrize(
    "text", ["", ":", "3:", "3:-", "-1", "3:20-10", "3:1-2-3", "a", "3 :1", "\uff13", "3:" + "9" * 30]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    """With the forms that there are."""
    with pytest.raises(BadSelection, match="--offsets"):
        parse_range(text)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from("smhdw")), min_size=1, max_size=4))
def test_times_are_written_as_how_long_ago(parts: list[tuple[int, str]]) -> None:
    """Parts add up: -1h30m."""
    ago = sum(number * UNITS[unit] for number, unit in parts)
    assume(ago <= NOW_MS)
    text = "-" + "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_time("--from", text, NOW) == NOW_MS - ago


@given(st.datetimes(min_value=FIRST, max_value=LAST), st.integers(-720, 720))
def test_times_are_written_in_iso_8601(moment: datetime, minutes: int) -> None:
    """UTC where no zone is named; milliseconds, the rest is dropped."""
    zoned = moment.replace(tzinfo=UTC)
    expected = (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time("--from", moment.isoformat(), NOW) == expected
    assume(minutes)
    sign, ahead = "+" if minutes > 0 else "-", abs(minutes)
    shifted = f"{(moment + timedelta(minutes=minutes)).isoformat()}{sign}{ahead // 60:02}:{ahead % 60:02}"
    assert parse_time("--from", shifted, NOW) == expected


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """Never anything but a time since 1970."""
    with suppress(BadSelection):
        assert parse_time("--until", text, NOW) >= 0


@pytest.mark.parametrize("text", ["", "1h", "-1", "-h", "-1y", "- 1h", "yesterday", "1969-01-01", "-99999w", "-1h-1m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With the forms that there are."""
    with pytest.raises(BadSelection, match="write it like -90s"):
        parse_time("--from", text, NOW)


def test_topics_have_short_names() -> None:
    """And full ones; what no topic can be called is refused before anything is asked."""
    assert topic_name("failed") == "clew.events.failed.v1"
    assert topic_name("my.topic-1_a") == "my.topic-1_a"
    for text in ("", "..", "a b", "a/b", "é", "x" * 250):
        with pytest.raises(BadSelection, match="short names are events"):
            topic_name(text)


def test_reasons_are_those_of_the_contract() -> None:
    """By their names, dashes or not; several at once."""
    for name, number in REASONS.items():
        assert parse_reason(name) == number
    assert parse_reason("Missing-Identifier") == FailureReason.FAILURE_REASON_MISSING_IDENTIFIER
    read = Asked("failed", reasons=["too_deep, unknown_type", "too_deep"]).read()
    assert read.reasons == {REASONS["too_deep"], REASONS["unknown_type"]}
    with pytest.raises(BadSelection, match="missing_identifier"):
        parse_reason("bad")


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_the_first_moment_is_meant_and_the_last_is_not(since: int, until: int, moment: int) -> None:
    """So that two reads side by side share no record."""
    selection = Selection("t", since_ms=since, until_ms=until)
    assert selection.has_time(moment) == (since <= moment < until)
    assert Selection("t").has_time(moment)


def test_ranges_add_up() -> None:
    """Any of them, of its partition."""
    selection = Selection("t", ranges=(Range(1, 5, 6), Range(1, 9), Range(2, 0, 0)))
    found = [(p, o) for p in range(3) for o in range(11) if selection.has_offset(p, o)]
    assert found == [(1, 5), (1, 6), (1, 9), (1, 10), (2, 0)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["read", "events", "--reason", "too_deep"], "only failed events have one"),
        (["read", "events", "--from", "-1h", "--until", "-2h"], "not after --from"),
        (["read", "a b"], "no name of a topic"),
        (["read", "events", "--kafka", "nowhere"], "no HOST:PORT"),
        (["read", "events", "--registry", "file:///etc"], "no address like https://registry.example"),
        (["replay", "events", "--to", "a b"], "no name of a topic"),
        (["redrive", "--set", "userId"], "no PATH=JSON"),
        (["redrive", "--set", "userId=u-1"], "no JSON"),
        (["redrive", "--unset", "a..b"], "no path"),
        (["redrive", "--fix", "jq", "--unset", "a"], "take one of"),
        (["redrive", "--fix", "'"], "no command"),
        (["redrive", "--edit"], "needs a terminal"),
        (["redrive", "--note", "x" * 501], "more than 500"),
    ],
)
def test_an_option_that_cannot_be_meant_ends_with_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Before anything is asked of anybody; the message says what is wrong."""
    result = CliRunner().invoke(app, ["topic", *arguments, "--data-dir", str(tmp_path)], env={"COLUMNS": "500"})
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.replace("│", " ").split())


def test_where_nothing_runs_it_is_said(tmp_path: Path) -> None:
    """With what to do."""
    for arguments in (["read", "events"], ["replay", "events", "--to", "x"], ["redrive"]):
        result = CliRunner().invoke(app, ["topic", *arguments, "--data-dir", str(tmp_path)])
        assert (result.exit_code, "start `clew up`" in result.output) == (1, True), result.output
