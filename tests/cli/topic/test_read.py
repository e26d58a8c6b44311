"""Reading a topic on the embedded broker and on a real Apache Kafka: bounded, joined by time, by place and by time."""

import json
import threading
import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cli.topic.errors import TopicError
from cli.topic.plan import SLACK_MS, plan
from cli.topic.read import read, selected
from cli.topic.reader import consumer as open_consumer
from cli.topic.reader import never
from cli.topic.schemas import Read, Schemas
from cli.topic.selection import Range, Selection
from tests.cli.topic.conftest import Written

pytestmark = pytest.mark.timeout(120)

T0 = int(time.time() * 1_000) - 200_000_000


def found(written: Written, **fields: object) -> list[Read]:
    """What is read of the topic."""
    selection = Selection(written.topic, **fields)  # type: ignore[arg-type]
    with open_consumer(written.access.broker()) as client:
        return list(selected(client, Schemas(), selection, never))


def values(reads: list[Read]) -> list[bytes | None]:
    """Their values."""
    return [one.raw.value for one in reads]


def spread(written: Written, number: int) -> None:
    """Records over four partitions, one a minute, the partitions in turn."""
    written.write(*({"value": b"%d" % at, "partition": at % 4, "timestamp": T0 + 60_000 * at} for at in range(number)))


def test_a_topic_is_read_to_its_end_the_oldest_first(written: Written) -> None:
    """All partitions joined by the records' times; empty partitions do not hold it up."""
    written.write({"value": b"only", "partition": 2, "timestamp": T0 - 1})
    assert values(found(written)) == [b"only"]
    spread(written, 2_500)
    assert values(found(written)) == [b"only", *(b"%d" % at for at in range(2_500))]


def test_a_partition_keeps_its_order_where_times_go_back(written: Written) -> None:
    """A record with an earlier time than the one before it comes after it all the same."""
    written.write(
        {"value": b"late", "partition": 1, "timestamp": T0 + 5_000},
        {"value": b"early", "partition": 1, "timestamp": T0},
        {"value": b"between", "partition": 2, "timestamp": T0 + 3_000},
    )
    assert values(found(written)) == [b"between", b"late", b"early"]


def test_it_ends_where_the_topic_ended_when_it_began(written: Written) -> None:
    """What is written meanwhile is not read, so that a busy topic has an end."""
    spread(written, 40)
    with open_consumer(written.access.broker()) as client:
        reading = selected(client, Schemas(), Selection(written.topic), never)
        first = next(reading)
        spread(written, 40)
        assert len([first, *reading]) == 40


def test_records_are_meant_by_place_and_key(written: Written) -> None:
    """Ranges include both ends; a key is compared whole."""
    spread(written, 40)
    assert values(found(written, ranges=(Range(1, 2, 3),))) == [b"9", b"13"]
    assert values(found(written, ranges=(Range(0, 9), Range(3, 0, 0)))) == [b"3", b"36"]
    assert values(found(written, ranges=(Range(2, 500),))) == []
    written.write({"value": b"x", "key": b"k-1"}, {"value": b"y", "key": b"k-11"}, {"value": b"z"})
    assert values(found(written, keys=frozenset({"k-1"}))) == [b"x"]
    assert values(found(written, limit=3)) == [b"0", b"1", b"2"]


def test_records_are_meant_by_time(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first moment on and before the last; where the broker knows no times the topic is read through."""
    spread(written, 200)
    since, until = T0 + 60_000 * 50, T0 + 60_000 * 60
    assert values(found(written, since_ms=since, until_ms=until)) == [b"%d" % at for at in range(50, 60)]
    assert values(found(written, since_ms=since)) == [b"%d" % at for at in range(50, 200)]
    assert values(found(written, until_ms=until)) == [b"%d" % at for at in range(60)]
    assert found(written, since_ms=T0 + 10**9) == []
    assert ("cannot look up offsets by time" in capsys.readouterr().err) is not written.real


def test_a_real_broker_is_asked_where_times_begin(written: Written) -> None:
    """So that an hour of a long topic costs no more than an hour; an hour of slack is for records that are late."""
    spread(written, 400)
    selection = Selection(written.topic, since_ms=T0 + 60_000 * 100, until_ms=T0 + 60_000 * 120)
    with open_consumer(written.access.broker()) as client:
        made = plan(client, selection)
    if not written.real:
        assert set(made.starts.values()) == {0}
        return
    assert made.starts == dict.fromkeys(range(4), 25)
    assert made.ends == dict.fromkeys(range(4), 30 + SLACK_MS // 60_000 // 4)


def test_what_retention_has_removed_is_said(written: Written) -> None:
    """A range that begins before the oldest record is read from there on; the embedded broker deletes on no request."""
    spread(written, 40)
    assert [one.raw.offset for one in found(written, ranges=(Range(1, 0, 5),))] == list(range(6))
    if not written.real:
        return
    admin = AdminClient({"bootstrap.servers": written.bootstrap})
    (deleted,) = admin.delete_records([TopicPartition(written.topic, 1, 4)]).values()
    deleted.result(20)
    with open_consumer(written.access.broker()) as client:
        made = plan(client, Selection(written.topic, ranges=(Range(1, 0, 5),)))
    assert made.notes == ["partition 1 begins at offset 4 now: retention has removed what was before"]
    assert [one.raw.offset for one in found(written, ranges=(Range(1, 0, 5),))] == [4, 5]


def test_what_is_not_there_is_said(written: Written) -> None:
    """A topic with the others' names, a partition with the numbers that there are; looking makes no topic."""
    for _ in range(2):
        with pytest.raises(TopicError, match=f"there is no topic {written.topic}"):
            found(written)
    spread(written, 4)
    with pytest.raises(TopicError, match="has no partition 7; it has 0 to 3"):
        found(written, ranges=(Range(7),))


def test_one_of_clews_own_topics_may_not_exist_yet(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing failed so far: no fault of whoever looks."""
    status = read(written.access, Selection("clew.events.failed.v1"), follow=False, json_lines=True, headers=True)
    assert (status, capsys.readouterr().out) == (0, "")


def test_following_goes_on_where_the_bounded_part_ended(written: Written) -> None:
    """Each record once, until somebody wants it to end."""
    spread(written, 20)
    ended = threading.Event()
    seen: list[bytes | None] = []
    with open_consumer(written.access.broker()) as client:
        for one in selected(client, Schemas(), Selection(written.topic), ended.is_set, follow=True):
            seen.append(one.raw.value)
            if len(seen) == 20:
                written.write({"value": b"new", "partition": 0}, {"value": b"newer", "partition": 0})
            if one.raw.value == b"newer":
                ended.set()
    assert seen == [*(b"%d" % at for at in range(20)), b"new", b"newer"]


def test_a_topic_that_does_not_exist_is_waited_for(bootstrap: tuple[str, bool]) -> None:
    """With --follow, one of clew's own is read once somebody writes to it."""
    written = Written(*bootstrap, topic="clew.audit.v1")
    writer = threading.Timer(1.5, lambda: written.write({"value": b"first", "partition": 0}))
    writer.start()
    ended = threading.Event()
    with open_consumer(written.access.broker()) as client:
        for one in selected(client, Schemas(), Selection(written.topic), ended.is_set, follow=True):
            assert one.raw.value == b"first"
            ended.set()
    writer.join()
    assert ended.is_set()


def test_records_of_strangers_are_shown_as_they_are(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """Tombstones, values without a schema, headers of any bytes, no key: a line of JSON each, and nothing raw."""
    headers: list[tuple[str, bytes | None]] = [("a", b"1"), ("b", None), ("a", b"\xff\x1b[31m")]
    written.write(
        {"value": None, "key": b"k", "partition": 0, "timestamp": T0},
        {"value": b"\x1b]0;title\x07", "headers": headers, "partition": 0, "timestamp": T0 + 1},
    )
    assert read(written.access, Selection(written.topic), follow=False, json_lines=True, headers=True) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    tombstone, stranger = map(json.loads, out.splitlines())
    assert (tombstone["key"], tombstone["value"], tombstone["value_base64"]) == ("k", None, None)
    assert (stranger["key"], stranger["headers"]["a"]) == (None, ["1", "\\xff\x1b[31m"])
    assert "wire format" in stranger["problem"]
    assert read(written.access, Selection(written.topic), follow=False, json_lines=False, headers=True) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_brokers_that_do_not_answer_end_it() -> None:
    """With what is wrong, and not with silence."""
    nowhere = Written("127.0.0.1:9", real=False, topic="t")
    began = time.monotonic()
    assert read(nowhere.access, Selection("t"), follow=False, json_lines=True, headers=True) == 1
    assert time.monotonic() - began < 60
