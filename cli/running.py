"""A whole mesh on this machine: the processes, their settings, and where they are reachable."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc

from clew.identity.v1.identity_service_pb2 import IssueTokenRequest
from clew.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from cli.children import Child, ChildFailed, Ready, keep_running
from cli.health import is_serving, kafka_problem
from cli.layout import ADMIN_CLIENT, Layout, Secrets, write_private

START_SECONDS = 30.0
_ADMIN_TOKEN_SECONDS = 86_400
_SERVICES = ("identity", "consent", "enrich")


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """What the user chose. `kafka` empty: an embedded broker; `http_port` 0: a free one; `database` empty: SQLite."""

    data_dir: Path
    http_port: int = 0
    http_host: str = "127.0.0.1"
    kafka: str = ""
    database: str = ""
    spool_mib: int = 0


@dataclass(slots=True)
class Mesh:
    """The supervised processes of one data directory."""

    options: MeshOptions
    say: Callable[[str], None]
    children: dict[str, Child] = field(default_factory=dict)
    endpoints: dict[str, object] = field(default_factory=dict)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list)
    _lock: int | None = None
    _replaced: set[str] = field(default_factory=set)

    async def start(self) -> None:
        """Start everything and write `endpoints.json` once all are SERVING.

        Raises:
            ChildFailed: A process did not come up; those that did are stopped again.
            DirectoryInUse: Another mesh runs from the data directory.
            OSError: The data directory cannot be used.
        """
        layout = self._layout
        self._lock = layout.lock()
        secrets = layout.prepare()
        layout.endpoints.unlink(missing_ok=True)
        try:
            await self._start_all(layout, secrets)
        except BaseException:
            await self.stop()
            raise

    @property
    def _layout(self) -> Layout:
        return Layout(self.options.data_dir.absolute())

    async def _start_all(self, layout: Layout, secrets: Secrets) -> None:
        ports = free_ports(5)
        grpc_ports = dict(zip((*_SERVICES, "gateway"), ports, strict=False))
        http = (self.options.http_host, self.options.http_port or ports[4])
        for name in _SERVICES:
            env = self._environment(layout, name, grpc_ports, "", http)
            self._add(layout, name, f"{name}_svc", env, serving(grpc_ports[name]))
        # What needs no broker starts beside it.
        await asyncio.gather(*(self.children[name].start() for name in _SERVICES))
        kafka = self.options.kafka or await self._start_broker(layout)
        if self.options.kafka:
            await self._make_topics()
        env = self._environment(layout, "gateway", grpc_ports, kafka, http)
        self._add(layout, "gateway", "gateway", env, serving(grpc_ports["gateway"]))
        await self.children["gateway"].start()
        await asyncio.gather(*(self.children[name].wait_ready(START_SECONDS) for name in (*_SERVICES, "gateway")))
        self.endpoints = {
            "http": f"http://{http[0]}:{http[1]}",
            "kafka": kafka,
            "grpc": {name: f"127.0.0.1:{port}" for name, port in grpc_ports.items()},
            "write_key": secrets.write_key,
            "admin_token": await admin_token(grpc_ports["identity"], secrets),
        }
        write_private(layout.endpoints, self.endpoints)
        self._watchers = [asyncio.create_task(self._renew_token(grpc_ports["identity"], secrets))]
        self._watchers += [
            asyncio.create_task(keep_running(child, self.say, self._follow_broker if name == "kafka" else None))
            for name, child in self.children.items()
        ]

    async def _start_broker(self, layout: Layout) -> str:
        layout.broker.unlink(missing_ok=True)
        env = {"CLEW_READY_FILE": str(layout.broker)}
        self._add(layout, "kafka", "mesh.bus.embedded", env, ready=partial(_exists, layout.broker))
        await self.children["kafka"].start()
        await self.children["kafka"].wait_ready(START_SECONDS)
        return self._broker_address()

    async def _make_topics(self) -> None:
        """Create the topics that a real Kafka lacks, before its brokers do so in their own way at the first record."""
        if await asyncio.to_thread(kafka_problem, self.options.kafka):
            # It is said, with what it means for events, once the mesh serves.
            self.say("topics were not looked at; `clew topics apply` makes them once Kafka answers")
            return
        from cli.topics import TopicsNotMade, create_missing  # noqa: PLC0415 - a start without Kafka loads no client

        try:
            for line in await asyncio.to_thread(create_missing, self.options.kafka):
                self.say(line)
        except TopicsNotMade as error:
            self.say(f"topics were not made: {error}; `clew topics apply` makes them")

    def _broker_address(self) -> str:
        """Where the broker is; the file goes, so that the next one to appear is the next broker's."""
        file = self._layout.broker
        address = str(json.loads(file.read_text())["bootstrap"])
        file.unlink()
        return address

    async def _renew_token(self, identity_port: int, secrets: Secrets) -> None:
        """Keep the admin token of `endpoints.json` valid for as long as the mesh runs."""
        while True:
            await asyncio.sleep(_ADMIN_TOKEN_SECONDS / 2)
            try:
                self.endpoints["admin_token"] = await admin_token(identity_port, secrets)
            except ChildFailed as failure:
                self.say(f"the admin token was not renewed: {failure}")
            else:
                write_private(self._layout.endpoints, self.endpoints)

    async def _follow_broker(self) -> None:
        """The embedded broker picks its own port: after its restart the gateway is told the new one."""
        gateway, kafka = self.children["gateway"], self._broker_address()
        self.say("the embedded broker lost what it held and has another address; restarting the gateway to use it")
        gateway.env = {**gateway.env, "CLEW_KAFKA": kafka}
        self.endpoints["kafka"] = kafka
        write_private(self._layout.endpoints, self.endpoints)
        await gateway.stop()

    def _environment(
        self, layout: Layout, name: str, ports: dict[str, int], kafka: str, http: tuple[str, int]
    ) -> dict[str, str]:
        """What a process is told; only the gateway is told of Kafka and of the edge."""
        env = {"CLEW_LISTEN": f"127.0.0.1:{ports[name]}", "CLEW_DATA_DIR": str(layout.data_dir)}
        if name == "identity":
            env["CLEW_CLIENTS_FILE"] = str(layout.clients)
        if name == "gateway":
            env |= {f"CLEW_{service.upper()}": f"127.0.0.1:{ports[service]}" for service in _SERVICES}
            env |= {"CLEW_KAFKA": kafka, "CLEW_SOURCES_FILE": str(layout.sources)}
            env |= {"CLEW_DATABASE": self.options.database, "CLEW_SPOOL_MIB": str(self.options.spool_mib)}
            env |= {"CLEW_HTTP_HOST": http[0], "CLEW_HTTP_PORT": str(http[1])}
        self._say_replaced(env)
        return env

    def _say_replaced(self, env: dict[str, str]) -> None:
        """Say which of the user's own variables have no effect here."""
        for variable, value in env.items():
            if os.environ.get(variable, value) != value and variable not in self._replaced:
                self._replaced.add(variable)
                self.say(f"{variable} is set and has no effect: `clew up` uses {value or 'its own'}; see its options")

    def _add(self, layout: Layout, name: str, module: str, env: dict[str, str], ready: Ready) -> None:
        self.children[name] = Child(name, module, env, layout.logs / f"{name}.log", ready)

    async def stop(self) -> None:
        """Drain the edge first, then what it calls, then the broker; `endpoints.json` goes at once."""
        self._layout.endpoints.unlink(missing_ok=True)
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for names in (("gateway",), _SERVICES, ("kafka",)):
            await asyncio.gather(*(self.children[name].stop() for name in names if name in self.children))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def serving(port: int) -> Ready:
    """Waits until a server's standard health service says SERVING."""

    async def wait() -> None:
        while not await is_serving(f"127.0.0.1:{port}"):  # noqa: ASYNC110 - another process turns to serving
            await asyncio.sleep(0.05)

    return wait


async def _exists(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it; a look at a local file does not block
        await asyncio.sleep(0.02)


async def admin_token(identity_port: int, secrets: Secrets) -> str:
    """A token with the scope `clew.admin` for this machine's tools; it holds for a day.

    Raises:
        ChildFailed: The identity service does not issue it; the clients file was changed, probably.
    """
    request = IssueTokenRequest(client_id=ADMIN_CLIENT, client_secret=secrets.admin_secret)
    request.lifetime.seconds = _ADMIN_TOKEN_SECONDS
    async with grpc.aio.insecure_channel(f"127.0.0.1:{identity_port}") as channel:
        try:
            answer = await IdentityServiceStub(channel).IssueToken(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            raise ChildFailed(
                f"identity issues no admin token: {error.details()}; does clients.json still hold {ADMIN_CLIENT}?"
            ) from error
    return answer.access_token
