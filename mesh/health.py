"""The standard health service (grpc.health.v1), whose watches end when the process drains.

The servicer that comes with grpcio keeps watches open for ever, so that each drain lasts its full grace period whenever
a client checks health, as ours do.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_NAME = "grpc.health.v1.Health"

Status = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers Check at once and Watch on every change, until the end."""

    def __init__(self) -> None:
        self._status: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._ended = False

    def set_all(self, status: int, services: tuple[str, ...] = ()) -> None:
        """Set the status of the named services and of all that are known already."""
        self._status.update(dict.fromkeys((*self._status, *services), status))
        self._wake()

    def end_watches(self) -> None:
        """End every watch, after its last change is sent."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Status:  # noqa: N802
        """Answer with the status of a service; NOT_FOUND when it is not known."""
        status = self._status.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return Status(status=status)

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[Status]:
        """Send the status of a service now and whenever it changes."""
        last = None
        while True:
            changed = self._changed
            status = self._status.get(request.service, Status.SERVICE_UNKNOWN)
            if status != last:
                yield Status(status=status)
                last = status
            if self._ended:
                return
            await changed.wait()
