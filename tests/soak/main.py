"""`make soak`: half of what the mesh can carry, for an hour, and a look at what its processes hold.

What it can carry is measured first, by a closed loop. Then single events arrive at random moments at half that rate.
Every few seconds each process of clew's is looked at: resident memory, descriptors and threads in /proc, tasks by its
own measurement. At the end its ledger must balance, and be what is on the topics.

Exit status: 0 nothing grows and the ledger balances; 1 something grows, an answer was no 200, or the ledger does not
agree; 2 Java or Maven is missing.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from tests.faults.ledger import imbalance
from tests.faults.main import DOCUMENT, ROOT, say
from tests.faults.mesh import FaultMesh, running
from tests.faults.report import write_into
from tests.faults.schedule import kind
from tests.soak.report import BEGIN, END, Soak, render
from tests.soak.samples import Sample, look, trend
from tests.soak.tasks import TaskCollector
from tests.support.topics import EVENTS, FAILED
from tools.kafka.archives import KafkaUnavailableError, class_path, java_command
from tools.kafka.cluster import LocalKafka

LOAD_SHARE: Final = 0.5
_CONNECTIONS: Final = 64
_CAPACITY_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 2.0
# The first third, and never more than ten minutes: caches fill, and so does the store of messages.
_WARM_UP_SHARE: Final = 1 / 3
_MOST_WARM_UP_SECONDS: Final = 600.0
_SETTLE_SECONDS: Final = 60.0
# What remembers people is bounded, and is to be full before anything is judged: the usual 200,000 and 100,000 take
# half an hour of new visitors, and look like a leak meanwhile.
_CACHES: Final = {"CLEW_IDENTITY_CACHE_SIZE": "4000", "CLEW_CONSENT_CACHE_SUBJECTS": "2000"}
# An hour's events would fill a disk; the ledger is compared with where the topics end, which what has gone is part of.
_RETENTION: Final = {"log.retention.bytes": "200000000", "log.segment.bytes": "50000000"}


@dataclass(slots=True)
class Watched:
    """A mesh that is looked at: the samples of each process by name."""

    mesh: FaultMesh
    tasks: TaskCollector
    samples: dict[str, list[Sample]]

    async def watch(self) -> None:
        """Look until cancelled."""
        began = time.monotonic()
        while True:
            for name, pid in self.mesh.pids().items():
                seconds = time.monotonic() - began
                self.samples[name].append(look(pid, seconds, self.tasks.tasks.get(kind(name), 0)))
            await asyncio.sleep(_LOOK_SECONDS)


def main() -> int:
    """Run the command line; the exit status."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="clew-soak-"))
    try:
        java_command()
        class_path()
        found = asyncio.run(_run(folder, options.minutes * 60))
    except KafkaUnavailableError as error:
        say(str(error))
        return 2
    except (asyncio.CancelledError, AssertionError, TimeoutError) as failure:
        say(f"FAILED: {str(failure) or type(failure).__name__}; logs and data are in {folder}")
        return 1
    text = render(found)
    sys.stdout.write(text + "\n")
    if options.document:
        write_into(DOCUMENT, text, BEGIN, END)
    problems = found.problems()
    for problem in problems:
        say(f"FAILED: {problem}")
    if problems:
        say(f"logs and data are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if problems else 0


async def _run(folder: Path, seconds: float) -> Soak:
    task = asyncio.current_task()
    assert task is not None
    # A run that is told to end leaves no process behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    collector = TaskCollector()
    os.environ |= _CACHES | {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": str(round(1000 * _LOOK_SECONDS)),
    }
    kafka = LocalKafka(folder / "kafka", settings=_RETENTION)
    try:
        async with running(folder, 1, cluster=kafka) as mesh:
            say(f"measuring what the mesh carries, {_CAPACITY_SECONDS:g} s")
            capacity = float((await _load(mesh, rate=0, seconds=_CAPACITY_SECONDS))["events_per_second"])
            rate = round(LOAD_SHARE * capacity)
            say(f"{capacity:,.0f} events/s; {seconds / 60:g} minutes at {rate:,} a second")
            watched = Watched(mesh, collector, defaultdict(list))
            watching = asyncio.create_task(watched.watch())
            load = await _load(mesh, rate=rate, seconds=seconds)
            # What happened to the watch must not be lost.
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            mesh.check()
            ledger = await _ledger(mesh)
    finally:
        collector.close()
    warm_up = min(_MOST_WARM_UP_SECONDS, _WARM_UP_SHARE * seconds)
    return Soak(
        date=datetime.now(UTC).date().isoformat(),
        seconds=seconds,
        warm_up=warm_up,
        capacity=capacity,
        rate=rate,
        load=load,
        trends={name: trend(samples, warm_up) for name, samples in watched.samples.items()},
        ledger=ledger,
    )


async def _load(mesh: FaultMesh, *, rate: float, seconds: float) -> dict[str, Any]:
    """Run the load generator; what it measured."""
    command = [sys.executable, "-m", "bench.load", "--url", mesh.gateways[0], "--write-key", mesh.write_key]
    command += ["--connections", str(_CONNECTIONS), "--rate", str(rate), "--duration", str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    found: dict[str, Any] = json.loads(output)
    return found


async def _ledger(mesh: FaultMesh) -> list[str]:
    """Where the ledger does not agree, once nothing is under way.

    Raises:
        TimeoutError: Something is for a minute.
    """
    async with asyncio.timeout(_SETTLE_SECONDS):
        while (counts := await mesh.ledger()).in_flight:  # noqa: ASYNC110 - the gateway settles it
            await asyncio.sleep(0.5)
    events, failed = await asyncio.to_thread(_ends, mesh.kafka)
    return imbalance(counts, events=events, failed=failed, filtered=())


def _ends(bootstrap: str) -> tuple[int, int]:
    """How many records were ever written to the events topic and to the failed one."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "soak"})
    try:
        return _end(consumer, EVENTS), _end(consumer, FAILED)
    finally:
        consumer.close()


def _end(consumer: Consumer, topic: str) -> int:
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    return sum(consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in partitions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--document", action="store_true", help="write the figures into docs/RELIABILITY.md")
    return parser.parse_args()
