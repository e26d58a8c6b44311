"""Which records are meant: their topic, by time, place, key, message id, reason and source."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from clew.event.v1.failed_event_pb2 import FailureReason
from cli.topics import declared_topics

# `failed` of clew.events.failed.v1: what stands before the version, for each topic that is declared.
SHORT_NAMES: Final = {topic.name.split(".")[-2]: topic.name for topic in declared_topics().topics}
FAILED: Final = SHORT_NAMES["failed"]
REASONS: Final = {
    name.removeprefix("FAILURE_REASON_").lower(): number for name, number in FailureReason.items() if number
}
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"-((?:\d{1,7}[smhdw])+)", re.ASCII)
_RANGE: Final = re.compile(r"(\d{1,9})(?::(?:(\d{1,18})(?:(-)(\d{1,18})?)?|-(\d{1,18})))?", re.ASCII)
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class BadSelection(Exception):
    """Raised when an option cannot be what was meant; the message says what is wrong and how it is written.

    Args:
        option: Which option, as it is typed.
        problem: What is wrong.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of one partition, both ends included; `last` None: to the end."""

    partition: int
    first: int = 0
    last: int | None = None

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.partition}:{self.first}-{'' if self.last is None else self.last}"

    def __contains__(self, offset: int) -> bool:
        return self.first <= offset and (self.last is None or offset <= self.last)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a record must have to be meant; an empty field asks for nothing.

    Times are Unix milliseconds and those of the records: from `since_ms` on, and before `until_ms`. `limit` 0: all.
    """

    topic: str
    since_ms: int | None = None
    until_ms: int | None = None
    ranges: tuple[Range, ...] = ()
    keys: frozenset[str] = frozenset()
    message_ids: frozenset[str] = frozenset()
    reasons: frozenset[int] = frozenset()
    workspace: str = ""
    source: str = ""
    limit: int = 0

    def has_offset(self, partition: int, offset: int) -> bool:
        """Whether a place is meant."""
        return not self.ranges or any(one.partition == partition and offset in one for one in self.ranges)

    def has_time(self, time_ms: int) -> bool:
        """Whether a time is meant."""
        after = self.since_ms is None or time_ms >= self.since_ms
        return after and (self.until_ms is None or time_ms < self.until_ms)


@dataclass(slots=True)
class Asked:
    """A selection as it was typed."""

    topic: str
    since: str = ""
    until: str = ""
    ranges: Sequence[str] = ()
    keys: Sequence[str] = ()
    message_ids: Sequence[str] = ()
    reasons: Sequence[str] = ()
    workspace: str = ""
    source: str = ""
    limit: int = 0
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def read(self) -> Selection:
        """What was meant.

        Raises:
            BadSelection: An option cannot be read, or goes with another topic.
        """
        topic = topic_name(self.topic)
        since_ms = parse_time("--from", self.since, self.now) if self.since else None
        until_ms = parse_time("--until", self.until, self.now) if self.until else None
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise BadSelection("--until", "it is not after --from, so that nothing lies between")
        if self.reasons and topic != FAILED:
            raise BadSelection("--reason", f"only failed events have one; read {FAILED} (failed)")
        return Selection(
            topic=topic,
            since_ms=since_ms,
            until_ms=until_ms,
            ranges=tuple(parse_range(text) for text in self.ranges),
            keys=frozenset(self.keys),
            message_ids=frozenset(self.message_ids),
            reasons=frozenset(map(parse_reason, _split(self.reasons))),
            workspace=self.workspace,
            source=self.source,
            limit=self.limit,
        )


def topic_name(text: str, option: str = "TOPIC") -> str:
    """The full name of a topic: a short name's, or the name itself.

    Raises:
        BadSelection: Kafka has no such names.
    """
    name = SHORT_NAMES.get(text, text)
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise BadSelection(option, f"{text!r} is no name of a topic; short names are {', '.join(SHORT_NAMES)}")
    return name


def parse_time(option: str, text: str, now: datetime) -> int:
    """Unix milliseconds of `-90s`, `-1h30m`, `-2d`, `now`, or ISO 8601 text (UTC where it names no zone).

    Raises:
        BadSelection: It is none of these.
    """
    try:
        moment = now if text == "now" else _ago(text, now) or datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        milliseconds = (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        milliseconds = -1
    if milliseconds < 0:
        raise BadSelection(option, f"{text!r} is no time; write it like -90s, -1h30m, -2d, now or 2026-11-26T02:00:00Z")
    return milliseconds


def parse_range(text: str) -> Range:
    """Offsets like `3` (all of a partition), `3:17`, `3:10-20` (both included), `3:10-` or `3:-20`.

    Raises:
        BadSelection: It is none of these.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise BadSelection("--offsets", f"{text!r} is no PARTITION:FIRST-LAST; write it like 3, 3:17, 3:10-20 or 3:10-")
    first = int(match[2] or 0)
    end = match[4] or match[5]
    last = int(end) if end else None
    if match[2] and not match[3]:
        last = first
    if last is not None and last < first:
        raise BadSelection("--offsets", f"{text!r} ends before it begins")
    return Range(int(match[1]), first, last)


def parse_reason(text: str) -> int:
    """The number of a failure reason by its name, like `missing_identifier`.

    Raises:
        BadSelection: There is no such reason.
    """
    number = REASONS.get(text.lower().removeprefix("failure_reason_").replace("-", "_"))
    if number is None:
        raise BadSelection("--reason", f"{text!r} is none of {', '.join(REASONS)}")
    return number


def _split(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",")]


def _ago(text: str, now: datetime) -> datetime | None:
    match = _AGO.fullmatch(text)
    if match is None:
        return None
    parts = re.findall(r"(\d+)([smhdw])", match[1])
    return now - sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
