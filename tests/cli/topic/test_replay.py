"""Copies on another topic, on the embedded broker and on a real Apache Kafka: byte for byte, marked, once."""

import json
import os
import time
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from cli.topic.read import selected
from cli.topic.reader import consumer, never
from cli.topic.records import Raw
from cli.topic.replay import AT, BY, FROM, Copying, mark_of, marked, replay
from cli.topic.schemas import Schemas
from cli.topic.selection import Range, Selection
from tests.cli.topic.conftest import Written

pytestmark = pytest.mark.timeout(120)

T0 = int(time.time() * 1_000) - 10_000_000
RECORDS: list[dict[str, Any]] = [
    {"key": b"a", "value": b"\x00\x00\x00\x00\x0cx", "headers": [("h", b"1"), ("h", None), ("g", b"\xff")]},
    {"key": b"b", "value": None},
    {"key": None, "value": b""},
    {"key": b"", "value": b"plain"},
]


def fill(written: Written) -> None:
    """Records of all kinds."""
    written.write(*({**record, "partition": 1, "timestamp": T0 + at} for at, record in enumerate(RECORDS)))


def records(written: Written, topic: str) -> list[Raw]:
    """All of a topic."""
    with consumer(written.access.broker()) as client:
        return [read.raw for read in selected(client, Schemas(), Selection(topic), never)]


def copying(written: Written, **fields: Any) -> Copying:
    """A copy of the topic to one beside it."""
    values: dict[str, Any] = {"do": True, "create": True, "by": "ada"}
    return Copying(Selection(written.topic), f"{written.topic}.copy", **(values | fields))


def test_copies_are_the_same_byte_for_byte_and_say_where_they_are_from(written: Written) -> None:
    """Key, value and headers, those with the same name and without a value too; the mark stands behind them."""
    fill(written)
    assert replay(written.access, copying(written), json_lines=True) == 0
    originals = records(written, written.topic)
    copies = {copy.header(FROM): copy for copy in records(written, f"{written.topic}.copy")}
    assert len(copies) == len(originals) == 4
    for original in originals:
        copy = copies[f"{written.topic}/1/{original.offset}@{original.time_ms}"]
        assert (copy.key, copy.value) == (original.key, original.value)
        assert copy.headers[:-3] == original.headers
        assert [name for name, _ in copy.headers[-3:]] == [FROM, AT, BY]
        assert copy.header(BY) == "ada"


def test_running_it_again_copies_what_is_missing(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """After an interruption, or when more has come; a second run of the same writes nothing. --again copies all."""

    def run(**fields: Any) -> tuple[int, int]:
        assert replay(written.access, copying(written, **fields), json_lines=True) == 0
        said = json.loads(capsys.readouterr().out)
        return said["copied"], said["copied_before"]

    fill(written)
    part = Selection(written.topic, ranges=(Range(1, 1, 2),))
    assert replay(written.access, replace(copying(written), selection=part), json_lines=True) == 0
    assert json.loads(capsys.readouterr().out)["copied"] == 2
    assert run() == (2, 2)
    assert run() == (0, 4)
    assert run(again=True) == (4, 0)
    assert len(records(written, f"{written.topic}.copy")) == 8


def test_without_yes_nothing_is_written(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """It says how many would be, and makes no topic."""
    fill(written)
    assert replay(written.access, copying(written, do=False), json_lines=False) == 0
    assert "4 would be copied" in capsys.readouterr().out
    admin = AdminClient({"bootstrap.servers": written.bootstrap})
    assert f"{written.topic}.copy" not in admin.list_topics(timeout=10).topics


def test_a_topic_is_made_only_when_told_to(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """With as many partitions, so that keys lie together as they did."""
    fill(written)
    assert replay(written.access, copying(written, create=False), json_lines=False) == 1
    assert "let --create make it, with 4 partitions" in capsys.readouterr().err
    assert replay(written.access, copying(written), json_lines=False) == 0
    admin = AdminClient({"bootstrap.servers": written.bootstrap})
    assert len(admin.list_topics(timeout=10).topics[f"{written.topic}.copy"].partitions) == 4


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("t", "t", "it would never end"),
        ("t", "clew.events.v1", "clew topic redrive"),
        ("t", "clew.audit.v1", "only the gateway writes"),
        ("clew.events.v1", "clew.dest.mail.v1", "not for copies"),
        ("t", "__consumer_offsets", "not for copies"),
    ],
)
def test_where_copies_may_not_go(
    bootstrap: tuple[str, bool], capsys: pytest.CaptureFixture[str], *, source: str, target: str, said: str
) -> None:
    """Into the topic that is read, and onto topics that stand for a decision of clew's."""
    written = Written(*bootstrap, topic=source)
    assert replay(written.access, Copying(Selection(source), target, do=True, create=True), json_lines=False) == 1
    assert said in capsys.readouterr().err


def test_a_mark_belongs_to_one_record() -> None:
    """Another place, or another time at the same place of a topic that was made anew, is another record."""
    one = Raw("t", 1, 2, 3, b"k", b"v", [(FROM, b"older/0/0@0")])
    marks = {
        mark_of(one),
        mark_of(replace(one, offset=3)),
        mark_of(replace(one, time_ms=4)),
        mark_of(replace(one, partition=2)),
    }
    assert len(marks) == 4
    copy = replace(one, headers=marked(one, "ada", 0))
    assert copy.header(FROM) == mark_of(one)


def test_records_that_kafka_refuses_are_told(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """With their places, and exit status 1: the others are copied."""
    written.write(
        {"value": os.urandom(1_040_000), "partition": 0}, {"value": b"small", "partition": 0}, topic=written.topic
    )
    status = replay(written.access, copying(written, by=os.urandom(15_000).hex()), json_lines=True)
    said = capsys.readouterr()
    # The embedded broker takes records of any size.
    refused = int(written.real)
    assert (json.loads(said.out)["failed"], json.loads(said.out)["copied"]) == (refused, 2 - refused)
    assert (status, f"not copied: {written.topic}/0/0" in said.err) == (refused, written.real)


def test_an_account_without_a_name_copies_too(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number of its own: the number stands in the mark."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_123)
    fill(written)
    assert replay(written.access, copying(written, by=""), json_lines=True) == 0
    assert {copy.header(BY) for copy in records(written, f"{written.topic}.copy")} == {"2000000123"}
