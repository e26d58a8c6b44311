"""The limit of an HTTP edge in Python: `python -m bench.limits.http`. Prints its port, serves until SIGTERM.

`asyncio.Protocol` on uvloop with httptools: each request is parsed to its end and answered with the same bytes. No
routing, no authentication, no limits: what it leaves a service is the rest.
"""

import asyncio
import json
import signal
from typing import cast

import httptools
import uvloop

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"success":true}'


class Connection(asyncio.Protocol):
    """Answers one client."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep the body, as a service must."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        b"".join(self._body)
        self._body.clear()
        assert self._transport is not None
        self._transport.write(ANSWER)


async def serve() -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
