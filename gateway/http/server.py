"""The HTTP server: listens, watches over its connections, and drains."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from gateway.http.connection import Connection
from gateway.http.edge import Decorate, Edge, FindDirect, no_direct
from gateway.http.limits import HttpLimits
from gateway.http.message import Handler, Headers, Response
from mesh.clock import Clock, SystemClock

_BACKLOG = 2048
_INFLATE_THREADS = 2
_LONGEST_SWEEP_SECONDS = 0.5
_GRACE_SECONDS = 0.25


def _as_it_is(_: Headers, response: Response) -> Response:
    return response


class HttpServer:
    """Serves HTTP/1.1 and 1.0 with one handler. Use it on one event loop, once.

    Args:
        handler: Answers each request in a task of its own. The task is cancelled as soon as the client is gone, and a
            client that closes its sending side counts as gone. A `ClewError` becomes a problem, any other exception
            a 500 that says nothing.
        limits: What clients may do.
        clock: The time of requests and of the Date field.
        decorate: See `Decorate`.
        find_direct: The requests whose handler needs no task; it is asked before `handler`.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits | None = None,
        clock: Clock | None = None,
        *,
        decorate: Decorate = _as_it_is,
        find_direct: FindDirect = no_direct,
    ) -> None:
        self._handler = handler
        self._find_direct = find_direct
        self._limits = limits or HttpLimits()
        self._clock = clock or SystemClock()
        self._decorate = decorate
        self._edge: Edge | None = None
        self._listener: asyncio.Server | None = None
        self._pool = ThreadPoolExecutor(_INFLATE_THREADS, thread_name_prefix="inflate")
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._edge.connections) if self._edge else 0

    @property
    def in_flight(self) -> int:
        """Requests whose handler runs."""
        return self._edge.in_flight if self._edge else 0

    async def start(self, host: str, port: int) -> int:
        """Listen on an address; return the port, which the system picks for 0.

        Raises:
            OSError: The address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        edge = Edge(
            handler=self._handler,
            find_direct=self._find_direct,
            limits=self._limits,
            clock=self._clock,
            decorate=self._decorate,
            loop=loop,
            pool=self._pool,
        )
        self._listener = await loop.create_server(lambda: Connection(edge), host, port, backlog=_BACKLOG)
        self._edge = edge
        self._watch(edge)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let running requests finish for so long, answer 503 to the rest, and close everything."""
        edge = self._edge
        if edge is None or self._listener is None:
            return
        edge.draining = True
        self._listener.close()
        for connection in list(edge.connections):
            connection.drain()
        if not await edge.emptied(seconds):
            for connection in list(edge.connections):
                connection.cut()
            await edge.emptied(self._limits.linger_seconds + _GRACE_SECONDS)
        for connection in list(edge.connections):
            connection.abort()
        await edge.emptied(_GRACE_SECONDS)
        if self._sweep is not None:
            self._sweep.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _watch(self, edge: Edge) -> None:
        """One timer for all connections, as one for each would cost as much as a request."""
        limits = self._limits
        shortest = min(
            limits.header_seconds, limits.body_seconds, limits.first_seconds, limits.idle_seconds, limits.send_seconds
        )
        interval = min(_LONGEST_SWEEP_SECONDS, shortest / 4, limits.linger_seconds / 4)

        def sweep() -> None:
            now = edge.loop.time()
            for connection in list(edge.connections):
                connection.expire(now)
            edge.refresh_date()
            self._sweep = edge.loop.call_later(interval, sweep)

        self._sweep = edge.loop.call_later(interval, sweep)
