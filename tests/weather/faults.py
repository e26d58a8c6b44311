"""The faults: each begins, lasts, and is over when the call returns; what it broke is mended then, if not yet well."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import httpx

from tests.faults.load import Client
from tests.faults.mesh import FaultMesh
from tests.weather import clock
from tests.weather.cluster import Cluster
from tests.weather.disk import Disk

# Longer than a broker's session (2 s) and than the 9.5 s in which the edge answers: new leaders have taken over, and
# what waited for the fault to end was refused.
_LONG_SECONDS: Final = 12.0
_SHORT_SECONDS: Final = 6.0
_FULL_SECONDS: Final = 20.0
_OUTAGE_SECONDS: Final = 20.0
_DRAIN_SECONDS: Final = 60.0
_GATEWAYS: Final = ("gateway-1", "gateway-2")


class NoEffect(AssertionError):
    """A fault did not do to the cluster what it is there for: its row would say nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """What faults may disturb."""

    mesh: FaultMesh
    cluster: Cluster
    disk: Disk

    async def warm_up(self) -> None:
        """Send what makes the topics, and wait until they are whole."""
        client = Client(self.mesh.gateways, self.mesh.write_key, "")
        for number in range(len(self.mesh.gateways)):
            await client.probe(number)
        await self.cluster.await_whole()


Play = Callable[[Place], Awaitable[None]]


async def leader_killed(place: Place) -> None:
    """The broker that leads most partitions is killed; it stays away while others lead, then comes back."""
    leader = await place.cluster.leader()
    await place.cluster.end(leader)
    await asyncio.sleep(_SHORT_SECONDS)
    if await place.cluster.leads(leader):
        raise NoEffect(f"broker {leader.number} was killed and still leads")
    await place.cluster.launch(leader)


async def below_minimum(place: Place) -> None:
    """Two of three brokers are killed: no record can be acknowledged, since two must have it."""
    _, *others = place.cluster.kafka.nodes
    await asyncio.gather(*(place.cluster.end(node) for node in others))
    await asyncio.sleep(_LONG_SECONDS)
    await place.cluster.launch(*others)


async def frozen(place: Place) -> None:
    """The broker that leads most partitions stops where it is, connections open, and goes on when others lead."""
    leader = await place.cluster.leader()
    place.cluster.freeze(leader)
    try:
        await asyncio.sleep(_LONG_SECONDS)
    finally:
        place.cluster.thaw(leader)


async def stuttering(place: Place) -> None:
    """The broker that leads most partitions runs a fifth of the time: too slow, and too much alive to be replaced."""
    leader = await place.cluster.leader()
    for _ in range(12):
        place.cluster.freeze(leader)
        try:
            await asyncio.sleep(0.4)
        finally:
            place.cluster.thaw(leader)
        await asyncio.sleep(0.1)


async def cut(place: Place) -> None:
    """No gateway reaches any broker; what was on its way arrives when the network is back."""
    async with place.cluster.cut(*place.cluster.kafka.nodes):
        await asyncio.sleep(_LONG_SECONDS)


async def answers_cut(place: Place) -> None:
    """Brokers get and store what gateways send, and no gateway hears of it until the network is back."""
    async with place.cluster.cut(*place.cluster.kafka.nodes, answers_only=True):
        await asyncio.sleep(_LONG_SECONDS)


async def leader_unreachable(place: Place) -> None:
    """The gateways do not reach one broker, which the cluster thinks well of: nobody takes its place."""
    async with place.cluster.cut(await place.cluster.leader()):
        await asyncio.sleep(_LONG_SECONDS)


async def disk_full(place: Place) -> None:
    """The disk of one broker is full, which ends it; it comes back when there is room again."""
    node = place.disk.node
    place.disk.fill()
    try:
        async with asyncio.timeout(_FULL_SECONDS):
            # Whatever the cluster writes takes what room is left.
            while node.running:  # noqa: ASYNC110 - another process ends
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NoEffect(f"broker {node.number} does not notice that its disk is full") from None
    finally:
        place.disk.clear()
    await place.cluster.end(node)
    await place.cluster.launch(node)


async def gateway_killed(place: Place) -> None:
    """One gateway of two is killed with everything that it had under way, and started again."""
    await place.mesh.kill("gateway-1")
    await asyncio.sleep(1.0)
    await place.mesh.restart("gateway-1")


async def clock_jumps(place: Place) -> None:
    """The clock of one gateway of two jumps three hours ahead (Kafka refuses its records), behind, and back."""
    for offset in ("+3h", "-3h"):
        clock.turn(place.mesh.folder, offset)
        await asyncio.sleep(_SHORT_SECONDS / 2)
    clock.turn(place.mesh.folder, clock.RIGHT)


async def with_own_clock(place: Place) -> None:
    """Start one gateway again with a clock that can be turned."""
    clock.turn(place.mesh.folder, clock.RIGHT)
    await place.mesh.replace("gateway-2", clock.environment(place.mesh.folder))


async def with_machine_clock(place: Place) -> None:
    """Start it again with the machine's clock."""
    await place.mesh.replace("gateway-2", clock.OWN)


async def rolling_restart(place: Place) -> None:
    """Every broker is stopped in order and started again, the next one when the replicas are together again."""
    for node in place.cluster.kafka.nodes:
        await place.cluster.end(node, signal.SIGTERM)
        await place.cluster.launch(node)
        await place.cluster.await_whole()


async def outage_with_spool(place: Place) -> None:
    """The whole Kafka is gone for 20 s and the time that it takes to start; each gateway keeps events on its disk."""
    await asyncio.to_thread(place.cluster.kafka.kill)
    await asyncio.sleep(_OUTAGE_SECONDS)
    async with httpx.AsyncClient() as client:
        for gateway in place.mesh.gateways:
            if not await _spooled(client, gateway):
                raise NoEffect(f"Kafka is gone, and {gateway} keeps nothing in its spool")
    await asyncio.to_thread(place.cluster.kafka.start)


async def with_spool(place: Place) -> None:
    """Start the gateways again, with a spool."""
    for name in _GATEWAYS:
        await place.mesh.replace(name, {"CLEW_SPOOL_MIB": "256"})


async def without_spool(place: Place) -> None:
    """Start them again without it, once nothing is left in there."""
    await drained(place)
    for name in _GATEWAYS:
        await place.mesh.replace(name, {"CLEW_SPOOL_MIB": "0"})


async def drained(place: Place) -> None:
    """Return when every gateway has released what it kept.

    Raises:
        TimeoutError: One has not, after a minute.
    """
    async with httpx.AsyncClient() as client, asyncio.timeout(_DRAIN_SECONDS):
        for gateway in place.mesh.gateways:
            while await _spooled(client, gateway):  # noqa: ASYNC110 - another process works it off
                await asyncio.sleep(0.2)


async def _spooled(client: httpx.AsyncClient, gateway: str) -> int:
    return int((await client.get(f"{gateway}/readyz")).json()["spool"]["events"])


async def nothing(_place: Place) -> None:
    """What most faults need before and after."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them.

    Attributes:
        name: On the command line.
        title: In the report.
        play: What it does.
        prepare, restore: What comes before and after it, while nothing is sent.
        unseen: No client may be answered with anything but 200. Visitors then stay with one gateway: what two spools
            keep of one visitor has no order.
    """

    name: str
    title: str
    play: Play
    prepare: Play = nothing
    restore: Play = nothing
    unseen: bool = False


FAULTS: Final = (
    Fault("leader", "leader killed", leader_killed),
    Fault("isr", "two brokers of three killed", below_minimum),
    Fault("frozen", "leader frozen for 12 s", frozen),
    Fault("slow", "leader slow for 6 s", stuttering),
    Fault("cut", "network to Kafka cut for 12 s", cut),
    Fault("answers", "Kafka's answers held back for 12 s", answers_cut),
    Fault("link", "link to one leader cut for 12 s", leader_unreachable),
    Fault("disk", "disk of a broker full", disk_full),
    Fault("gateway", "gateway killed", gateway_killed),
    Fault("clock", "clock of a gateway jumps", clock_jumps, with_own_clock, with_machine_clock),
    Fault("rolling", "rolling restart of the brokers", rolling_restart),
    Fault("spool", "Kafka gone for 20 s, spool on", outage_with_spool, with_spool, without_spool, unseen=True),
)
