"""Three times too much from one source: the others do not notice, and it alone is refused.

A simulation in virtual time: the real limiter and the real coalescer before a pipeline whose stages take a fixed time
for a batch and for each event. `bench/fairness.py` measures the same on a running mesh.
"""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import cast

import pytest

from gateway.coalesce import Coalescer
from gateway.errors import RateLimited
from gateway.limits.adaptive import Bounds
from gateway.limits.limiter import Limiter
from gateway.sources import Source, SourceLimits
from gateway.turn import Turn
from mesh.errors import Overloaded
from tests.mesh.rpc import Recorder
from tests.support.virtual_time import VirtualLoop, simulate

PURPOSES = frozenset({2})
STAGES_SECONDS, EVENT_SECONDS, KAFKA_SECONDS = 0.020, 0.0005, 0.006
CAPACITY = 1 / EVENT_SECONDS
"""Events a second that the services can carry, in batches without end."""


@dataclass(slots=True, eq=False)
class Item:
    """One request in the pipeline."""

    flow: str
    count: int
    size: int
    number: int
    deadline: float = float("inf")


@dataclass(slots=True)
class World:
    """A gateway whose services are simulated, and what its sources saw."""

    limiter: Limiter
    coalescer: Coalescer[Item]
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    published: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    async def carry(self, items: list[Item], turn: Turn) -> None:
        """The services, then Kafka's producer, then the next batch goes."""
        await asyncio.sleep(STAGES_SECONDS + EVENT_SECONDS * sum(item.count for item in items))
        for item in items:
            self.published[item.flow].append(item.number)
        turn.end()
        await asyncio.sleep(KAFKA_SECONDS)

    async def request(self, source: Source, item: Item) -> None:
        """One request, from its admission to its answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            entered = self.limiter.enter(source, item.count, item.count)
        except (RateLimited, Overloaded) as error:
            self.statuses[source.name][429 if isinstance(error, RateLimited) else 503] += 1
            return
        await self.coalescer.submit(item)
        self.limiter.leave(entered, answered=True)
        self.statuses[source.name][200] += 1
        self.latencies[source.name].append(loop.time() - began)

    async def send(self, source: Source, rate: float, seconds: float, count: int) -> None:
        """Requests of `count` events at random moments, whether or not answers come; `rate` in events a second."""
        chance = random.Random(source.name)
        async with asyncio.TaskGroup() as requests:
            for number in range(round(rate * seconds / count)):
                await asyncio.sleep(chance.expovariate(rate / count))
                requests.create_task(self.request(source, Item(source.name, count, 1000 * count, number)))

    def p99(self, name: str) -> float:
        """The latency of a source that 99 of 100 answers keep, seconds."""
        ordered = sorted(self.latencies[name])
        return ordered[len(ordered) * 99 // 100]


def world(bounds: Bounds | None = None) -> World:
    """A gateway in the running loop's time."""
    loop = cast(VirtualLoop, asyncio.get_running_loop())
    limiter = Limiter(Recorder().telemetry.meter, None, bounds, loop.time_ns)
    made = World(limiter, cast("Coalescer[Item]", None))
    made.coalescer = Coalescer(made.carry, clock=loop.time)
    return made


QUIET = Source("shop", "quiet", PURPOSES)
QUIET_RATE = 40.0


def run(noisy: Source, noisy_rate: float, *, batch: int = 10, seconds: float = 10.0) -> World:
    """A quiet source beside a noisy one, which may be silent."""

    async def main() -> World:
        gateway = world()
        async with asyncio.TaskGroup() as senders:
            senders.create_task(gateway.send(QUIET, QUIET_RATE, seconds, 1))
            if noisy_rate:
                senders.create_task(gateway.send(noisy, noisy_rate, seconds, batch))
        assert gateway.limiter.in_flight == 0
        return gateway

    return simulate(main())


def test_three_times_its_rate_is_refused_to_the_noisy_source_and_costs_the_quiet_one_nothing() -> None:
    """What exceeds the rate is 429 and reaches no batch: beside three times as much the quiet source is as quick."""
    rate = CAPACITY / 4
    noisy = Source("shop", "noisy", PURPOSES, SourceLimits(rate, round(rate / 10)))
    allowed, overload = run(noisy, rate), run(noisy, 3 * rate)
    assert overload.p99("quiet") < 1.25 * allowed.p99("quiet")
    assert set(overload.statuses["quiet"]) == {200}
    assert set(overload.statuses["noisy"]) == {200, 429}
    kept = overload.statuses["noisy"][200] * 10
    assert kept == pytest.approx(rate * 10, rel=0.05)


@pytest.mark.parametrize("batch", [5, 100])
def test_three_times_what_the_pipeline_carries_is_refused_to_who_sends_it(batch: int) -> None:
    """Without any configured rate: 429 for the noisy source alone, in time for what it gets in, full use all the same.

    The quiet source shares batches with the noisy one; it waits for the one that is under way and travels in the next,
    never behind what the noisy one has waiting.
    """
    noisy = Source("shop", "noisy", PURPOSES)
    overload = run(noisy, 3 * CAPACITY, batch=batch, seconds=20.0)
    assert set(overload.statuses["quiet"]) == {200}
    assert set(overload.statuses["noisy"]) == {200, 429}
    shared = STAGES_SECONDS + 100 * EVENT_SECONDS
    assert overload.p99("quiet") <= 3 * shared + KAFKA_SECONDS
    # The first wave meets a limit that has not found its place yet.
    late = overload.latencies["noisy"][len(overload.latencies["noisy"]) // 2 :]
    assert max(late) < 1.5
    assert overload.statuses["noisy"][200] * batch > 0.8 * 100 / shared * 20


def test_two_noisy_sources_get_alike() -> None:
    """Of what the pipeline carries, each gets half, and the quiet one all that it asks for."""

    async def main() -> World:
        gateway = world()
        async with asyncio.TaskGroup() as senders:
            senders.create_task(gateway.send(QUIET, QUIET_RATE, 10, 1))
            for name, rate in (("first", 2 * CAPACITY), ("second", CAPACITY)):
                senders.create_task(gateway.send(Source("shop", name, PURPOSES), rate, 10, 10))
        return gateway

    overload = simulate(main())
    first, second = (overload.statuses[name][200] for name in ("first", "second"))
    assert first == pytest.approx(second, rel=0.1)
    assert set(overload.statuses["quiet"]) == {200}


def test_each_source_keeps_its_order_under_overload() -> None:
    """However batches are filled, what a source sent first reaches Kafka first."""
    overload = run(Source("shop", "noisy", PURPOSES), 3 * CAPACITY, seconds=5.0)
    for numbers in overload.published.values():
        assert numbers == sorted(numbers)
        assert len(numbers) > 100


def test_a_pipeline_that_answers_late_takes_in_less() -> None:
    """The limit sinks until answers take about as long as they should, and stays there when the load is gone."""

    async def main() -> tuple[list[int], float]:
        gateway = world(Bounds(least=10, most=4_000, target_ns=200_000_000))
        values = [gateway.limiter.value]
        for rate in (2 * CAPACITY, QUIET_RATE):
            await gateway.send(Source("shop", "noisy", PURPOSES), rate, 20, 5)
            values.append(gateway.limiter.value)
        answers = gateway.latencies["noisy"]
        return values, max(answers[len(answers) // 2 :])

    (begin, overloaded, after), latest = simulate(main())
    assert overloaded < begin / 2
    assert after == overloaded
    assert latest < 0.6
