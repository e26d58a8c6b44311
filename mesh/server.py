"""A grpc.aio server with all that every service has: health, reflection, limits, interceptors, a drain at the end."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import grpc
import structlog
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh import health, process, validation
from mesh.interceptors.instruments import Instruments
from mesh.interceptors.server import ServerInterceptor
from mesh.settings import SettingsError, setting

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
_MOST_DRAIN_SECONDS: Final = 600
_MOST_CALLS: Final = 1_000_000
_ADDRESS: Final = re.compile(r"\S*[^\s:]:(\d{1,5})", re.ASCII)
_MOST_PORT: Final = 65_535

# Long enough for a watching client to take the address out before we refuse its calls.
DRAIN_LEAD_SECONDS: Final = 0.1

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two processes on one port would share its calls silently; a stale one must make the new one fail instead.
    ("grpc.so_reuseport", 0),
    # Clients of ours probe idle connections; the defaults would answer that with "too many pings".
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What every gRPC process can be told."""

    listen: str = setting(
        "CLEW_LISTEN", default="127.0.0.1:0", help="Address of the gRPC server, HOST:PORT; port 0: any free one."
    )
    reflection: bool = setting("CLEW_REFLECTION", default=True, help="Offer gRPC server reflection.")
    drain_seconds: float = setting(
        "CLEW_DRAIN_SECONDS", default=5.0, help="Seconds that running calls get to end before a stop."
    )
    data_dir: Path | None = setting(
        "CLEW_DATA_DIR", default=None, help="Directory for data and spans; empty: nothing is kept."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "CLEW_LOG_LEVEL", default="info", help="Least severe level logged."
    )
    max_concurrent_rpcs: int = setting(
        "CLEW_MAX_CONCURRENT_RPCS",
        default=1_000,
        help="Calls served at a time, health watches included; more are refused.",
    )

    def __post_init__(self) -> None:
        """Refuse what the server would break on later, or understand in its own way."""
        # gRPC takes 443 for an absent port, and counts those above 65535 from 0 again.
        address = _ADDRESS.fullmatch(self.listen)
        if address is None or int(address[1]) > _MOST_PORT:
            raise ValueError(f"CLEW_LISTEN: {self.listen!r} is no HOST:PORT with a port from 0 to {_MOST_PORT}")
        if not 0 <= self.drain_seconds <= _MOST_DRAIN_SECONDS:
            raise ValueError(f"CLEW_DRAIN_SECONDS: {self.drain_seconds:g} is not from 0 to {_MOST_DRAIN_SECONDS}")
        if not 1 <= self.max_concurrent_rpcs <= _MOST_CALLS:
            raise ValueError(f"CLEW_MAX_CONCURRENT_RPCS: {self.max_concurrent_rpcs} is not from 1 to {_MOST_CALLS}")


class GrpcServer:
    """A server that its owner registers servicers on, starts and drains.

    Args:
        name: Short name of the process, for logs.
        settings: What it was told.
        telemetry: Where spans and measurements go.
    """

    def __init__(self, name: str, settings: ServerSettings, telemetry: Instruments) -> None:
        self.name = name
        self.draining = asyncio.Event()
        self._settings = settings
        self._health = health.HealthServicer()
        self._interceptor = ServerInterceptor(telemetry)
        self.server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=_OPTIONS,
            maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    async def start(self, service_full_names: Sequence[str]) -> int:
        """Bind, serve, and report SERVING for the process and each named service.

        Returns:
            The port that was bound.

        Raises:
            SettingsError: The address cannot be bound.
        """
        validation.warm(_request_types(service_full_names))
        if self._settings.reflection:
            names = (*service_full_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self.server)
        try:
            port = self.server.add_insecure_port(self._settings.listen)
        except RuntimeError:
            raise SettingsError(
                [f"CLEW_LISTEN: {self._settings.listen!r} cannot be bound. Use a free HOST:PORT"]
            ) from None
        await self.server.start()
        self._health.set_all(health.Status.SERVING, ("", *service_full_names))
        return port

    async def drain(self) -> None:
        """Stop without failing anyone: report NOT_SERVING, let clients see it, refuse new calls, let running ones end.

        Calls that still run when the drain time is over are cancelled.
        """
        self.draining.set()
        self._health.set_all(health.Status.NOT_SERVING)
        await asyncio.sleep(DRAIN_LEAD_SECONDS)
        self._health.end_watches()
        self._interceptor.streams.say_goodbye()
        await self.server.stop(self._settings.drain_seconds)


async def serve_until_stopped(
    grpc_server: GrpcServer,
    service_full_names: Sequence[str],
    *,
    stop: asyncio.Event | None = None,
    on_start: Callable[[int], None] | None = None,
) -> None:
    """Start, serve until SIGTERM, SIGINT or the given event, and drain.

    Args:
        grpc_server: With its servicers registered.
        service_full_names: The services that health and reflection name.
        stop: What ends it instead of a signal.
        on_start: Called with the bound port once it serves.
    """
    log = structlog.get_logger()
    stop = process.stop_signal() if stop is None else stop
    port = await grpc_server.start(service_full_names)
    process.freeze_heap()
    log.info("serving", process=grpc_server.name, port=port, services=list(service_full_names))
    if on_start is not None:
        on_start(port)
    await stop.wait()
    log.info("draining", process=grpc_server.name)
    await grpc_server.drain()
    log.info("stopped", process=grpc_server.name)


def _request_types(service_full_names: Iterable[str]) -> list[type[Message]]:
    """The request messages of all rpcs of the named services."""
    pool = descriptor_pool.Default()
    services = (pool.FindServiceByName(name) for name in service_full_names)
    return [message_factory.GetMessageClass(method.input_type) for service in services for method in service.methods]
