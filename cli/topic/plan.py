"""Where to begin and to end on each partition, so that a read is bounded and reads no more than it must."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from cli.topic.errors import TopicError
from cli.topic.selection import Range, Selection

_SECONDS: Final = 10
_RETRY_SECONDS: Final = 0.2
_MOVING: Final = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.OFFSET_NOT_AVAILABLE,
}
# Clocks of publishers differ and retries arrive late: a record's time may be older than that of one before it.
SLACK_MS: Final = 3_600_000
_NO_OFFSET: Final = -1


@dataclass(slots=True)
class Plan:
    """For each partition where to begin and where to end (not included); `notes` tell people what they might miss."""

    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    highs: dict[int, int] = field(default_factory=dict)
    """Where each partition ended when the read began."""
    notes: list[str] = field(default_factory=list)

    @property
    def open(self) -> set[int]:
        """The partitions that have something to read."""
        return {partition for partition, start in self.starts.items() if start < self.ends[partition]}


def partitions_of(consumer: Any, topic: str) -> list[int]:
    """The partitions of a topic; none when it does not exist. Looking does not make it."""
    deadline = time.monotonic() + _SECONDS
    while True:
        known = consumer.list_topics(timeout=_SECONDS).topics.get(topic)
        if known is None or known.error is None:
            return sorted(known.partitions) if known is not None else []
        # One that is being made has no leader yet.
        if known.error.code() != KafkaError.LEADER_NOT_AVAILABLE or time.monotonic() > deadline:
            return []
        time.sleep(_RETRY_SECONDS)


def plan(consumer: Any, selection: Selection) -> Plan:
    """Look at the topic's ends and, by time, at its offsets.

    Raises:
        TopicError: The topic, or a partition that was named, does not exist.
        KafkaException: The brokers do not answer.
    """
    topic = selection.topic
    partitions = partitions_of(consumer, topic)
    if not partitions:
        others = sorted(name for name in consumer.list_topics(timeout=_SECONDS).topics if not name.startswith("__"))
        raise TopicError(f"there is no topic {topic}; there are {', '.join(others) or 'none yet'}")
    made, lows = Plan(), dict[int, int]()
    for partition in _wanted(selection.ranges, partitions, topic):
        low, high = _watermarks(consumer, TopicPartition(topic, partition))
        ranges = [one for one in selection.ranges if one.partition == partition]
        made.starts[partition] = max(low, min((one.first for one in ranges), default=low))
        ends = [high if one.last is None else one.last + 1 for one in ranges]
        made.ends[partition] = min(high, max(ends, default=high))
        made.highs[partition], lows[partition] = high, low
        if ranges and min(one.first for one in ranges) < low:
            made.notes.append(
                f"partition {partition} begins at offset {low} now: retention has removed what was before"
            )
    _bound_by_time(consumer, selection, made, lows)
    return made


def _watermarks(consumer: Any, partition: TopicPartition) -> tuple[int, int]:
    """Where a partition begins and ends. One that was just made, or is moving, is asked for again."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            low, high = consumer.get_watermark_offsets(partition, timeout=_SECONDS)
        except KafkaException as error:
            if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return low, high


def _wanted(ranges: Sequence[Range], partitions: Sequence[int], topic: str) -> list[int]:
    asked = sorted({one.partition for one in ranges})
    absent = [partition for partition in asked if partition not in partitions]
    if absent:
        raise TopicError(f"{topic} has no partition {absent[0]}; it has {partitions[0]} to {partitions[-1]}")
    return asked or list(partitions)


def _bound_by_time(consumer: Any, selection: Selection, made: Plan, lows: Mapping[int, int]) -> None:
    since, until = selection.since_ms, selection.until_ms
    filled = [partition for partition, high in made.highs.items() if lows[partition] < high]
    if (since is None and until is None) or not filled:
        return
    # The embedded broker answers every question with "none so late": ask for what every record is later than.
    if any(offset == _NO_OFFSET for offset in _lookup(consumer, selection.topic, filled, 1).values()):
        made.notes.append(
            "this broker cannot look up offsets by time (the embedded one cannot): reading from the beginning"
        )
        return
    if since is not None:
        for partition, offset in _lookup(consumer, selection.topic, filled, since).items():
            begin = made.highs[partition] if offset == _NO_OFFSET else offset
            made.starts[partition] = max(made.starts[partition], begin)
    if until is not None:
        for partition, offset in _lookup(consumer, selection.topic, filled, until + SLACK_MS).items():
            if offset != _NO_OFFSET:
                made.ends[partition] = min(made.ends[partition], offset)


def _lookup(consumer: Any, topic: str, partitions: Sequence[int], time_ms: int) -> dict[int, int]:
    """For each partition the offset of its first record that is not older; -1 when all are."""
    asked = [TopicPartition(topic, partition, time_ms) for partition in partitions]
    return {answer.partition: answer.offset for answer in consumer.offsets_for_times(asked, timeout=_SECONDS)}
