"""The limit of publishing from one Python process: `python -m bench.limits.produce --kafka HOST:PORT`.

`--connections` tasks each publish a request's worth of records through clew's own bus (acks=all, idempotent, one
future a batch) and wait for the acknowledgement; `--rate` lets requests come at random moments instead. One line of
JSON at the end, as `bench.load` prints it.
"""

import argparse
import asyncio
import json
import time
from array import array
from collections import Counter
from time import perf_counter

import uvloop

from bench.timing import arrivals, summary, tell_window
from bench.traffic import Traffic
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_client import KafkaSettings
from mesh.bus.port import Record


class Publishing:
    """Publishes and counts; nothing before the warm-up's end counts."""

    def __init__(self, bus: KafkaBus, traffic: Traffic, options: argparse.Namespace) -> None:
        self._bus = bus
        self._traffic = traffic
        self._topic: str = options.topic
        self._rate: float = options.rate
        self._marks: bool = options.marks
        self._begin = perf_counter() + options.warmup
        self._end = self._begin + options.duration
        self.latencies = array("d")
        self.problems: Counter[str] = Counter()

    async def publish(self, started: float) -> None:
        """Publish one request's worth of records, whose time counts from `started`."""
        events = [self._traffic.event() for _ in range(self._traffic.events_per_body)]
        failures = await self._bus.produce([Record(self._topic, event[:48], event) for event in events])
        now = perf_counter()
        if now < self._begin:
            return
        if failures:
            self.problems["failed"] += len(failures)
        elif now <= self._end or self._rate:
            self.latencies.append(now - started)

    async def run(self, connections: int) -> None:
        """Publish until the end: so many requests at a time, or at the rate."""
        async with asyncio.TaskGroup() as group:
            group.create_task(tell_window(self._begin, self._end, marks=self._marks))
            if self._rate:
                await self._opened(group)
            else:
                for _ in range(connections):
                    group.create_task(self._closed())

    async def _closed(self) -> None:
        """One request after the other."""
        while (now := perf_counter()) < self._end:
            await self.publish(now)

    async def _opened(self, group: asyncio.TaskGroup) -> None:
        """Requests at random moments, whether or not earlier ones are done."""
        for moment in arrivals(perf_counter(), self._rate):
            if moment >= self._end:
                return
            if (ahead := moment - perf_counter()) > 0:
                await asyncio.sleep(ahead)
            group.create_task(self.publish(moment))


async def drive(options: argparse.Namespace) -> dict[str, object]:
    """Run and report."""
    bus = KafkaBus(KafkaSettings(options.kafka))
    traffic = Traffic(options.batch, options.visitors, time.time_ns() // 1_000_000 & 0xFFFFFFFF)
    publishing = Publishing(bus, traffic, options)
    started = time.process_time()
    await publishing.run(options.connections)
    cpu = time.process_time() - started
    await bus.close()
    return summary(publishing.latencies, publishing.problems, traffic.events_per_body, options, cpu)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(prog="bench.limits.produce", description="Publish from one process and measure.")
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap server")
    parser.add_argument("--topic", default="limit.events.v1", help="where records go")
    parser.add_argument("--batch", type=int, default=0, help="records a request; 0: one")
    parser.add_argument("--connections", type=int, default=64, help="requests under way at a time")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second in an open loop; 0: closed loop")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds that do not count")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds that count")
    parser.add_argument("--marks", action="store_true", help="print a line when what counts begins, and when it ends")
    parser.add_argument("--visitors", type=int, default=1_000, help="visitors at a time")
    print(json.dumps(uvloop.run(drive(parser.parse_args()))))


if __name__ == "__main__":
    main()
