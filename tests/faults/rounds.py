"""One round: kill a process under load, start it again, and measure how long no event is acknowledged."""

import asyncio
from dataclasses import dataclass
from typing import Final

from tests.faults.audit import Kill
from tests.faults.load import Client
from tests.faults.mesh import FaultMesh
from tests.faults.schedule import Fault

# Far more than any recovery takes; a mesh that needs longer has not recovered.
_RECOVERY_SECONDS: Final = 60.0


class NotRecovered(AssertionError):
    """After a kill and a restart no event is acknowledged."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a kill cost, in seconds since the signal.

    Attributes:
        served: Until some gateway acknowledged a new event.
        whole: Until every gateway had acknowledged one.
    """

    number: int
    target: str
    served: float
    whole: float
    kill: Kill


async def play(fault: Fault, mesh: FaultMesh, client: Client) -> Round:
    """Carry out one fault.

    Raises:
        NotRecovered: A gateway acknowledged nothing for a minute.
        ProcessEnded: Something else had ended by itself.
    """
    await asyncio.sleep(fault.calm)
    killed = await mesh.kill(fault.target)
    try:
        # The process is gone: what is acknowledged from here on was sent without it.
        async with asyncio.timeout(_RECOVERY_SECONDS), asyncio.TaskGroup() as tasks:
            probes = [tasks.create_task(client.probe(number)) for number in range(len(mesh.gateways))]
            await asyncio.sleep(fault.down)
            await mesh.restart(fault.target)
    except TimeoutError as error:
        raise NotRecovered(f"round {fault.number}: nothing is acknowledged after {fault.target} was killed") from error
    moments = [probe.result() for probe in probes]
    back = max(moments)
    return Round(fault.number, fault.target, min(moments) - killed, back - killed, Kill(fault.target, killed, back))
