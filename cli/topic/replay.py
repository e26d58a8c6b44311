"""`clew topic replay`: records copied to another topic, byte for byte, each with a mark of where it came from."""

import getpass
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # imported for us, as documented

from cli.endpoints import NotRunning
from cli.topic.access import Access, on_interrupt
from cli.topic.errors import TopicError
from cli.topic.plan import partitions_of, plan
from cli.topic.read import INTERRUPTED, complain, selected, tell
from cli.topic.reader import Broker, Reader, Stop, consumer
from cli.topic.records import Raw
from cli.topic.schemas import Read
from cli.topic.selection import SHORT_NAMES, Selection
from cli.topic.view import time_text
from mesh.bus.kafka_client import connection_config, producer_config

FROM: Final = "clew-replay-from"
"""Header of a copy: `TOPIC/PARTITION/OFFSET@TIME`, the time in Unix milliseconds as the record has it."""
AT: Final = "clew-replay-time"
BY: Final = "clew-replay-by"
_RESERVED: Final = ("clew.dest.", "__")
_PROGRESS_SECONDS: Final = 1.0
_CREATE_SECONDS: Final = 15
_FLUSH_SECONDS: Final = 70.0
# How large a record may be is for the topic to say.
_MOST_BYTES: Final = 32 << 20
# What librdkafka calls a mock cluster.
_EMBEDDED_CLUSTER: Final = "mockCluster"


@dataclass(frozen=True, slots=True)
class Copying:
    """What is to be copied where, and how.

    `do`: copy, and not only count. `again`: copy also what was copied before. `create`: make the topic.
    """

    selection: Selection
    target: str
    do: bool = False
    again: bool = False
    create: bool = False
    by: str = ""

    def check(self) -> None:
        """Refuse targets that records may not be copied to.

        Raises:
            TopicError: It is the topic that is read, or one that only clew's services write.
        """
        if self.target == self.selection.topic:
            raise TopicError(f"{self.target} is the topic that is read: it would never end. Name another one")
        if self.target in SHORT_NAMES.values():
            raise TopicError(
                f"only the gateway writes {self.target}, so that identity, consent and the ledger hold; "
                "name a topic of your own, and send failed events again with `clew topic redrive`"
            )
        if self.target.startswith(_RESERVED):
            raise TopicError(f"{self.target} is not for copies: what stands there was decided for it. Name another one")


@dataclass(slots=True)
class Tally:
    """What was seen and done."""

    selected: int = 0
    copied: int = 0
    before: int = 0
    bytes: int = 0
    first_ms: int = -1
    last_ms: int = -1
    failures: list[str] = field(default_factory=list)

    def add(self, raw: Raw) -> None:
        """A record is meant."""
        self.selected += 1
        self.bytes += len(raw.key or b"") + len(raw.value or b"")
        self.first_ms = raw.time_ms if self.first_ms < 0 else min(self.first_ms, raw.time_ms)
        self.last_ms = max(self.last_ms, raw.time_ms)


def replay(access: Access, copying: Copying, *, json_lines: bool) -> int:
    """Copy, or say what would be copied; exit status 1 when something could not be."""
    stop = on_interrupt()
    tally = Tally()
    try:
        copying.check()
        with consumer(access.broker()) as client:
            copied = _target(client, access.broker(), copying, stop)
            found = selected(client, access.schemas(), copying.selection, stop)
            _copy_all(found, copied, _Sink(access.broker(), copying, tally) if copying.do else None, tally)
    except (NotRunning, TopicError, KafkaException) as error:
        return complain("replay", error)
    if json_lines:
        sys.stdout.write(_as_json(copying, tally))
    else:
        sys.stdout.write(_summary(copying, tally) + "\n")
    for failure in tally.failures[:5]:
        tell(f"clew topic replay: not copied: {failure}")
    if stop():
        tell("interrupted; run the same again to copy the rest")
        return INTERRUPTED
    return 1 if tally.failures else 0


def mark_of(raw: Raw) -> str:
    """What a copy of this record carries, and no other record's."""
    return f"{raw.place}@{raw.time_ms}"


def marked(raw: Raw, by: str, now_ms: int) -> list[tuple[str, bytes | None]]:
    """The headers of its copy: its own, and the mark behind them."""
    return [
        *raw.headers,
        (FROM, mark_of(raw).encode()),
        (AT, time_text(now_ms).encode()),
        (BY, by.encode()),
    ]


def _copy_all(found: Iterable[Read], copied: Collection[str], sink: "_Sink | None", tally: Tally) -> None:
    try:
        for read in found:
            tally.add(read.raw)
            if mark_of(read.raw) in copied:
                tally.before += 1
            elif sink is not None:
                sink.put(read.raw)
    finally:
        if sink is not None:
            sink.close()


def _target(client: Any, broker: Broker, copying: Copying, stop: Stop) -> set[str]:
    """The marks that stand on the target: what was copied before. It is made when it does not exist, and may be.

    Raises:
        TopicError: It does not exist, or cannot be made.
    """
    if not partitions_of(client, copying.target):
        count = len(partitions_of(client, copying.selection.topic))
        if not copying.create:
            raise TopicError(
                f"there is no topic {copying.target}: make it, or let --create make it, with {count} partitions"
            )
        if copying.do and count and not _makes_topics_by_itself(client):
            _create(broker, copying.target, count)
        return set()
    if copying.again:
        return set()
    reader = Reader(client, copying.target, plan(client, Selection(copying.target)), stop)
    prefix = f"{copying.selection.topic}/"
    return {mark for raw in reader.bounded() if (mark := raw.header(FROM)).startswith(prefix)}


def _makes_topics_by_itself(client: Any) -> bool:
    """Whether it is the embedded broker, where a topic is made when it is written to, and in no other way."""
    return str(client.list_topics(timeout=_CREATE_SECONDS).cluster_id).startswith(_EMBEDDED_CLUSTER)


def _create(broker: Broker, topic: str, partitions: int) -> None:
    admin = AdminClient({**connection_config(broker.settings), "log_level": 0})
    try:
        admin.create_topics([NewTopic(topic, partitions)])[topic].result(_CREATE_SECONDS)
    except KafkaException as error:
        raise TopicError(f"{topic} cannot be made: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise TopicError(f"{topic} was not made in {_CREATE_SECONDS} s") from error


def _account() -> str:
    """Who copies, where nobody says it; a number where the account has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class _Sink:
    """Writes copies and counts what Kafka acknowledges."""

    def __init__(self, broker: Broker, copying: Copying, tally: Tally) -> None:
        self._producer = Producer(
            {**producer_config(broker.settings), "message.max.bytes": _MOST_BYTES, "log_level": 0}
        )
        self._target = copying.target
        self._by = copying.by or _account()
        self._tally = tally
        self._progress = _Progress()

    def put(self, raw: Raw) -> None:
        """Hand a copy over; waits while the queue is full."""
        headers = marked(raw, self._by, time.time_ns() // 1_000_000)
        while True:
            try:
                self._producer.produce(
                    self._target,
                    raw.value,
                    raw.key,
                    headers=headers,  # type: ignore[arg-type] # a header may have no value
                    on_delivery=self._reporter(raw),
                )
                break
            except BufferError:
                self._producer.poll(0.5)
            except KafkaException as error:
                self._tally.failures.append(f"{raw.place}: {error.args[0].str()}")
                return
        self._producer.poll(0)
        self._progress.show(self._tally)

    def close(self) -> None:
        """Wait for what was handed over."""
        left = self._producer.flush(_FLUSH_SECONDS)
        if left:
            self._tally.failures.append(f"{left} records were not acknowledged in time; run the same again")

    def _reporter(self, raw: Raw) -> Callable[[Any, Any], None]:
        def report(error: Any, _message: Any) -> None:
            if error is None:
                self._tally.copied += 1
            else:
                self._tally.failures.append(f"{raw.place}: {error.str()}")

        return report


class _Progress:
    """A line on a terminal, now and then."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def show(self, tally: Tally) -> None:
        """Say how far it is, if somebody looks."""
        now = time.monotonic()
        if now >= self._next and sys.stderr.isatty():
            self._next = now + _PROGRESS_SECONDS
            sys.stderr.write(f"\r{tally.copied} copied ")
            sys.stderr.flush()


def _summary(copying: Copying, tally: Tally) -> str:
    span = f", {time_text(tally.first_ms)} to {time_text(tally.last_ms)}" if tally.selected else ""
    what = f"{tally.selected} records of {copying.selection.topic} ({tally.bytes} bytes{span})"
    before = f"; {tally.before} stand there already" if tally.before else ""
    if copying.do:
        return f"{what}: {tally.copied} copied to {copying.target}{before}"
    left = tally.selected - tally.before
    return f"{what}: {left} would be copied to {copying.target}{before}. Nothing was written: add --yes"


def _as_json(copying: Copying, tally: Tally) -> str:
    shown = {
        "from": copying.selection.topic,
        "to": copying.target,
        "dry_run": not copying.do,
        "selected": tally.selected,
        "copied": tally.copied,
        "copied_before": tally.before,
        "failed": len(tally.failures),
        "bytes": tally.bytes,
    }
    return json.dumps(shown) + "\n"
