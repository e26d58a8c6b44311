"""The mesh under test: plain processes that can be killed and started again, with one gateway or more, on a real Kafka.

Each process gets the environment that `clew up` gives it, and nobody restarts what was not restarted here.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.children import Child
from cli.layout import WORKSPACE, Layout, Secrets, write_private
from cli.running import START_SECONDS, Mesh, MeshOptions, admin_token, serving
from tests.faults.ledger import Counts, read_counts
from tests.faults.schedule import KAFKA, SERVICES, gateway_name
from tests.support.postgres import running_postgres
from tools.kafka.cluster import LocalKafka, free_ports
from tools.kafka.node import HOST

FILTERED_SOURCE: Final = "filtered"


class ProcessEnded(AssertionError):
    """A process of the mesh ended that nobody had killed."""


@dataclass(slots=True)
class FaultMesh:
    """Its processes by name; `gateways` are the URLs of the edges.

    Args:
        folder: Where everything is kept.
        count: How many gateways.
        database: PostgreSQL that the gateways share; empty: each has a store of its own, for one gateway.
        cluster: The Kafka, not started yet; None: a single broker.
        spool_mib: Of each gateway's spool; 0: they have none.
    """

    folder: Path
    count: int
    database: str = ""
    cluster: LocalKafka | None = None
    spool_mib: int = 0
    gateways: list[str] = field(init=False)
    write_key: str = ""
    filtered_key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _children: dict[str, Child] = field(default_factory=dict)
    _kafka: LocalKafka = field(init=False)
    _secrets: Secrets = field(init=False)
    _ports: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._kafka = self.cluster or LocalKafka(self.folder / KAFKA, quick_start=True)
        # Ports that no outgoing connection is given: a killed process must find its own free.
        ports = free_ports(len(SERVICES) + 2 * self.count)
        services = dict(zip(SERVICES, ports, strict=False))
        edges = ports[len(SERVICES) :]
        self._ports = {**services, "gateway": edges[self.count]}
        self.gateways = [f"http://{HOST}:{port}" for port in edges[: self.count]]
        self._prepare()
        for name in SERVICES:
            self._add(name, name, services, (HOST, 0))
        for number in range(self.count):
            own = {**services, "gateway": edges[self.count + number]}
            self._add(gateway_name(number + 1), "gateway", own, (HOST, edges[number]))

    @property
    def kafka(self) -> str:
        """Where Kafka is, `HOST:PORT`."""
        return self._kafka.bootstrap

    @property
    def targets(self) -> tuple[str, ...]:
        """Everything that can be killed."""
        return (*self._children, KAFKA)

    async def start(self) -> None:
        """Start everything and wait until it serves."""
        await asyncio.to_thread(self._kafka.start)
        await asyncio.gather(*(self._start(child) for child in self._children.values()))

    async def kill(self, target: str) -> float:
        """End a process at once and see that it is gone; the Unix time of the signal.

        Raises:
            ProcessEnded: Another one has ended by itself before.
        """
        self.check()
        moment = time.time()
        if target == KAFKA:
            await asyncio.to_thread(self._kafka.kill)
        else:
            process = self._children[target].process
            assert process is not None
            process.kill()
            await process.wait()
        return moment

    async def restart(self, target: str) -> None:
        """Start a killed process again, on the same data and ports, and wait until it serves."""
        if target == KAFKA:
            await asyncio.to_thread(self._kafka.start)
        else:
            await self._start(self._children[target])

    async def replace(self, target: str, changes: Mapping[str, str]) -> None:
        """Stop a process of clew's in order and start it again, with some variables of its environment changed."""
        child = self._children[target]
        await child.stop()
        child.env = {**child.env, **changes}
        await self._start(child)

    def check(self) -> None:
        """See that everything runs.

        Raises:
            ProcessEnded: Something does not; with its name and log.
        """
        for child in self._children.values():
            if child.pid is None:
                raise ProcessEnded(f"{child.name} ended by itself; see {child.log}")
        if not self._kafka.running:
            raise ProcessEnded(f"Kafka ended by itself; see {self._kafka.nodes[0].log}")

    async def ledger(self) -> Counts:
        """What the ledger says of all gateways, once nothing is under way."""
        token = await admin_token(self._ports["identity"], self._secrets)
        return await read_counts(f"{HOST}:{self._ports['gateway']}", token)

    def pids(self) -> dict[str, int]:
        """The processes that run, by name, without Kafka's."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    async def stop(self) -> None:
        """End everything; what is in flight is not waited for."""
        for child in self._children.values():
            if child.process is not None and child.pid is not None:
                child.process.kill()
                await child.process.wait()
        await asyncio.to_thread(self._kafka.kill)

    async def _start(self, child: Child) -> None:
        await child.start()
        await child.wait_ready(START_SECONDS)

    def _prepare(self) -> None:
        """Make the secrets and the sources; one more source collects for what nobody has consented to."""
        layout = Layout(self.folder)
        self._secrets = layout.prepare()
        self.write_key = self._secrets.write_key
        sources = json.loads(layout.sources.read_text())
        key = hashlib.sha256(self.filtered_key.encode()).hexdigest()
        filtered = {
            "workspace": WORKSPACE,
            "name": FILTERED_SOURCE,
            "write_key_sha256": key,
            "purposes": ["advertising"],
        }
        write_private(layout.sources, [*sources, filtered])

    def _add(self, name: str, kind: str, ports: dict[str, int], http: tuple[str, int]) -> None:
        layout = Layout(self.folder)
        mesh = Mesh(MeshOptions(self.folder, kafka=self.kafka, spool_mib=self.spool_mib), lambda _: None)
        env = mesh._environment(layout, kind, ports, self.kafka, http)
        if kind == "gateway":
            # Two gateways must not write to one store of spans.
            own = self.folder / name
            own.mkdir()
            env["CLEW_DATA_DIR"] = str(own)
            env["CLEW_DATABASE"] = self.database
        module = kind if kind == "gateway" else f"{kind}_svc"
        log = layout.logs / f"{name}.log"
        self._children[name] = Child(name, module, env, log, serving(ports[kind]))


@asynccontextmanager
async def running(
    folder: Path, gateways: int, *, cluster: LocalKafka | None = None, spool_mib: int = 0
) -> AsyncIterator[FaultMesh]:
    """A mesh that serves, ended at the end, whatever happened."""
    with ExitStack() as stack:
        # Claims of two gateways must meet: the store that they share is no process of clew's, and is not killed.
        database = stack.enter_context(running_postgres()).new_database() if gateways > 1 else ""
        mesh = FaultMesh(folder, gateways, database, cluster, spool_mib)
        try:
            await mesh.start()
            yield mesh
        finally:
            await mesh.stop()
