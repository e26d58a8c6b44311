"""How long a read waits for Kafka, and for whom it does not."""

import time
from typing import Any

import pytest
from confluent_kafka import KafkaException

from cli.topic import reader
from cli.topic.plan import Plan
from cli.topic.reader import Reader


class Message:
    """A record of one partition as the Kafka client hands it over."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offset(self) -> int:
        """Where it lies."""
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        """When it was written."""
        return 1, self._offset

    def partition(self) -> int:
        """On the only one."""
        return 0

    def topic(self) -> str:
        """On a topic."""
        return "t"

    def _nothing(self) -> None:
        return None

    error = key = value = headers = _nothing


class Client:
    """Answers each question with the next of some answers, at once; then with nothing, as a broker that is away."""

    def __init__(self, *answers: list[Message]) -> None:
        self._answers = list(answers)

    def consume(self, _count: int, _seconds: float) -> list[Message]:
        """What has come."""
        time.sleep(0.02)
        return self._answers.pop(0) if self._answers else []

    def assign(self, _partitions: Any) -> None:
        """Begin."""

    pause = resume = assign


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_SILENCE_SECONDS", 0.2)


def reading(*answers: list[Message]) -> Any:
    """A read of two records."""
    return Reader(Client(*answers), "t", Plan({0: 0}, {0: 2}, {0: 2})).bounded()


def test_who_takes_records_slowly_is_no_silence_of_kafka() -> None:
    """A pager that keeps a record for long, and then a moment without another one: the read goes on."""
    records = reading([Message(0)], [], [Message(1)])
    assert next(records).offset == 0
    time.sleep(0.4)
    assert [record.offset for record in records] == [1]


def test_a_kafka_that_does_not_answer_ends_a_read() -> None:
    """After the time that is its, which is no time that somebody else took."""
    records = reading([Message(0)])
    assert next(records).offset == 0
    with pytest.raises(KafkaException, match="does not answer"):
        next(records)
