"""A load generator: `python -m bench.load --url http://HOST:PORT --write-key KEY`, one line of JSON at the end.

Closed loop (the default): each of C connections sends its next request when the last one is answered; this measures
throughput. Open loop (`--rate`): requests arrive at random moments at that rate whether or not answers come, and
latency counts from the moment a request should have left, so that a stalled server cannot hide what it keeps waiting.

Run it in a process of its own. It costs 15 to 20 us a request: below some 30,000 requests/s it is not the bottleneck.
"""

import argparse
import asyncio
import base64
import json
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.timing import arrivals, summary, tell_window
from bench.traffic import SHAPES, Traffic

# A server that stops answering ends the run rather than hanging it.
DRAIN_SECONDS = 15.0
HTTP_OK = 200


@dataclass(slots=True)
class Plan:
    """What to do: durations in seconds, `rate` in requests a second, 0 for a closed loop."""

    host: str
    port: int
    authorization: str
    connections: int
    warmup: float
    duration: float
    rate: float
    marks: bool = False


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._expected = 0
        self._started = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first request."""
        # uvloop's transports are asyncio's by shape only.
        self.transport = cast(asyncio.Transport, transport)
        self._load.on_idle(self)

    def send(self, request: bytes, started: float) -> None:
        """Send a request, whose time counts from `started`."""
        assert self.transport is not None
        self._started = started
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect the response; report it when it is whole."""
        self._buffer = self._buffer + data if self._buffer else data
        if not self._expected and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._expected = end + 4 + content_length(self._buffer[:end])
        if self._expected and len(self._buffer) >= self._expected:
            status, started = int(self._buffer[9:12]), self._started
            self._buffer, self._expected, self._started = b"", 0, 0.0
            self._load.on_response(status, started)
            self._load.on_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the request that got no answer, and let another connection take its place."""
        self._load.on_lost(self, exc, pending=bool(self._started))


def content_length(head: bytes) -> int:
    """Read the length of a response's body."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("a response without Content-Length cannot be measured here")


class Load:
    """Drives the connections and counts what comes back; nothing before the warm-up's end counts."""

    def __init__(self, plan: Plan, traffic: Traffic) -> None:
        self._plan = plan
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._head = request_head(plan, traffic)
        self._idle: deque[Connection] = deque()
        self._arrivals: deque[float] = deque()
        self._due = arrivals(perf_counter(), plan.rate) if plan.rate else iter(())
        self._begin = perf_counter() + plan.warmup
        self._end = self._begin + plan.duration
        self._open = 0
        self._under_way = 0
        self._finished = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self.latencies = array("d")
        self.problems: Counter[str] = Counter()

    async def run(self) -> None:
        """Connect, load, and wait until the last answers are in."""
        await asyncio.gather(*(self._connect() for _ in range(self._plan.connections)))
        if self._plan.rate:
            self._arrive(next(self._due))
        await tell_window(self._begin, self._end, marks=self._plan.marks)
        self._settle()
        try:
            await asyncio.wait_for(self._finished.wait(), DRAIN_SECONDS)
        except TimeoutError:
            self.problems["unanswered"] += self._under_way
        for connection in tuple(self._idle):
            assert connection.transport is not None
            connection.transport.close()

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: Connection(self), self._plan.host, self._plan.port)
        except OSError as error:
            self.problems[type(error).__name__] += 1

    def on_idle(self, connection: Connection) -> None:
        """Give a connection its next request, or keep it until there is one."""
        now = perf_counter()
        if self._plan.rate:
            if self._arrivals:
                self._send(connection, self._arrivals.popleft())
            else:
                self._idle.append(connection)
        elif now < self._end:
            self._send(connection, now)
        else:
            self._idle.append(connection)
        self._settle()

    def on_response(self, status: int, started: float) -> None:
        """Count an answer by the moment that it came."""
        self._under_way -= 1
        now = perf_counter()
        if not self._begin <= now:
            return
        if status != HTTP_OK:
            self.problems[str(status)] += 1
        elif now <= self._end or self._plan.rate:
            self.latencies.append(now - started)

    def on_lost(self, connection: Connection, error: Exception | None, *, pending: bool) -> None:
        """Count a connection that the server closed, and replace it while the run lasts."""
        if connection in self._idle:
            self._idle.remove(connection)
        if perf_counter() >= self._end and not pending:
            return
        self.problems[type(error).__name__ if error else "closed"] += 1
        if pending:
            self._under_way -= 1
        if perf_counter() < self._end:
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        self._settle()

    def _send(self, connection: Connection, started: float) -> None:
        self._under_way += 1
        body = self._traffic.body()
        connection.send(b"%b%d\r\n\r\n%b" % (self._head, len(body), body), started)

    def _arrive(self, moment: float) -> None:
        """Let requests arrive as a Poisson process; those that are due together are sent together."""
        now = perf_counter()
        while moment <= now and moment < self._end:
            if self._idle:
                self._send(self._idle.popleft(), moment)
            else:
                self._arrivals.append(moment)
            moment = next(self._due)
        if moment < self._end:
            self._loop.call_later(moment - now, self._arrive, moment)

    def _settle(self) -> None:
        if perf_counter() >= self._end and not self._under_way and not self._arrivals:
            self._finished.set()


def request_head(plan: Plan, traffic: Traffic) -> bytes:
    """The head of every request, up to the length of its body."""
    return (
        f"POST {traffic.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nAuthorization: {plan.authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: "
    ).encode()


def basic(write_key: str) -> str:
    """The Authorization field that names a write key."""
    return f"Basic {base64.b64encode(f'{write_key}:'.encode()).decode()}"


async def drive(plan: Plan, traffic: Traffic) -> dict[str, object]:
    """Run a plan and report."""
    load = Load(plan, traffic)
    started = time.process_time()
    await load.run()
    return summary(load.latencies, load.problems, traffic.events_per_body, plan, time.process_time() - started)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(prog="bench.load", description="Load an edge with events and measure.")
    parser.add_argument("--url", required=True, help="http://HOST:PORT of the edge")
    credentials = parser.add_mutually_exclusive_group(required=True)
    credentials.add_argument("--write-key", help="sent as the user of Basic authentication")
    credentials.add_argument("--token", help="sent as a bearer token")
    parser.add_argument("--shape", choices=SHAPES, default="segment", help="how events are written")
    parser.add_argument("--batch", type=int, default=0, help="events a request; 0: single events to /v1/track")
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second in an open loop; 0: closed loop")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds that do not count")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds that count")
    parser.add_argument("--marks", action="store_true", help="print a line when what counts begins, and when it ends")
    parser.add_argument(
        "--visitors", type=int, default=1_000, help="visitors on the site at a time; each sends ten events"
    )
    options = parser.parse_args()
    url = urlsplit(options.url)
    plan = Plan(
        host=url.hostname or "127.0.0.1",
        port=url.port or 80,
        authorization=basic(options.write_key) if options.write_key else f"Bearer {options.token}",
        connections=options.connections,
        warmup=options.warmup,
        duration=options.duration,
        rate=options.rate,
        marks=options.marks,
    )
    run = time.time_ns() // 1_000_000 & 0xFFFFFFFF
    print(json.dumps(uvloop.run(drive(plan, Traffic(options.batch, options.visitors, run, shape=options.shape)))))


if __name__ == "__main__":
    main()
