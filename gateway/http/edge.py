"""What all connections of one server share."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from email.utils import formatdate
from typing import Protocol

from gateway.http.limits import HttpLimits
from gateway.http.message import DirectHandler, Handler, Headers, Request, Response
from mesh.clock import Clock
from mesh.errors import Draining, Overloaded

Decorate = Callable[[Headers, Response], Response]
"""Adds to a response what the request's headers ask for, such as CORS fields; refusals pass through it too."""

FindDirect = Callable[[Request], DirectHandler | None]
"""The handler of a request if it needs no task."""


def no_direct(_: Request) -> None:
    """Every handler needs a task."""


class Managed(Protocol):
    """A connection as the server sees it."""

    def expire(self, now: float) -> None:
        """Act if the connection's deadline has passed; `now` is the loop's time."""

    def drain(self) -> None:
        """Close if nothing is under way."""

    def cut(self) -> None:
        """Answer 503 to what is under way, and close."""

    def abort(self) -> None:
        """Close at once."""


class Edge:
    """The handler, the limits, and the counts that the limits are about."""

    __slots__ = (
        "_emptied", "clock", "connections", "date", "decorate", "draining", "find_direct", "handler", "held_bytes",
        "in_flight", "limits", "loop", "pool",
    )  # fmt: skip

    def __init__(
        self,
        *,
        handler: Handler,
        limits: HttpLimits,
        clock: Clock,
        decorate: Decorate,
        loop: asyncio.AbstractEventLoop,
        pool: Executor,
        find_direct: FindDirect = no_direct,
    ) -> None:
        self.handler = handler
        self.find_direct = find_direct
        self.limits = limits
        self.clock = clock
        self.decorate = decorate
        self.loop = loop
        self.pool = pool
        self.connections: set[Managed] = set()
        self.in_flight = 0
        self.held_bytes = 0
        self.draining = False
        self._emptied = asyncio.Event()
        self.date = b""
        self.refresh_date()

    def admit(self, connection: Managed) -> None:
        """Count a connection in.

        Raises:
            Draining: The server is about to stop.
            Overloaded: There are too many. It is counted all the same, until it is gone.
        """
        self.connections.add(connection)
        self._emptied.clear()
        if self.draining:
            raise Draining
        if len(self.connections) > self.limits.connections:
            raise Overloaded("too many connections")

    def remove(self, connection: Managed) -> None:
        """Count a connection out."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def hold(self, size: int) -> None:
        """Count bytes of bodies in.

        Raises:
            Overloaded: All connections together hold too much; the bytes are not counted.
        """
        if self.held_bytes + size > self.limits.held_bytes:
            raise Overloaded("too many bytes are being received")
        self.held_bytes += size

    def release(self, size: int) -> None:
        """Count bytes of bodies out."""
        self.held_bytes -= size

    def refresh_date(self) -> None:
        """Set the value of the Date field, which need not be newer than a second."""
        self.date = formatdate(self.clock.now_ns() / 1e9, usegmt=True).encode("ascii")

    async def emptied(self, seconds: float) -> bool:
        """Wait until no connection is left, at most so long; whether none is."""
        if self.connections:
            try:
                await asyncio.wait_for(self._emptied.wait(), seconds)
            except TimeoutError:
                return False
        return True
