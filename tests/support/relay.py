"""A TCP relay for tests: stands before a server and can hold back what goes to it, what comes from it, or both.

What is held back is not lost: once mended it arrives late, as TCP's retransmissions would bring it, even when its
sender has long given up and closed the connection. That is the harder case: a request that was given up for lost is
carried out after all.

    python -m tests.support.relay TARGET_PORT...

carries in a process of its own, so that nothing else that the tests do slows it: it prints the ports that it listens on
as a line of JSON, takes orders as lines on its standard input, and ends with it.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_CHUNK = 65_536
CUT, CUT_ANSWERS, MEND = "cut", "cut-answers", "mend"
"""Orders: the word, a space, and the relay's place in the list."""


@dataclass(slots=True)
class Relay:
    """Listens on a free port of the loopback interface and carries every connection to one server.

    Args:
        target: Port of the server.
    """

    target: int
    port: int = 0
    _server: asyncio.Server | None = None
    _there: asyncio.Event = field(default_factory=asyncio.Event)
    _back: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen, with both directions open; `port` says where."""
        self.mend()
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop every connection and listen no more."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self, *, answers_only: bool = False) -> None:
        """Hold everything back from now on; or only what the server says, so that requests are carried out unseen."""
        self._back.clear()
        if not answers_only:
            self._there.clear()

    def mend(self) -> None:
        """Carry on, first with what was held back."""
        self._there.set()
        self._back.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._there.wait()
            up_reader, up_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, up_writer, self._there), _pump(up_reader, writer, self._back))
        finally:
            writer.close()
            up_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event) -> None:
    """Carry one direction to its end; a side that is gone takes nothing more, and the other is told by the end."""
    try:
        while data := await reader.read(_CHUNK):
            await way.wait()
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        # The end waits its turn like the data before it.
        await way.wait()
        writer.close()


class Relays:
    """Relays to some servers, in a process of their own.

    Args:
        targets: Ports of the servers.
    """

    def __init__(self, targets: Sequence[int]) -> None:
        self._targets = targets
        self._process: asyncio.subprocess.Process | None = None
        self.ports: list[int] = []
        """Where they listen, in the order of the targets."""

    async def start(self) -> None:
        """Start the process; on return all of them listen."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.relay", *map(str, self._targets)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.ports = json.loads(await self._process.stdout.readline())

    async def order(self, word: str, *places: int) -> None:
        """Carry out an order at the relays of these places in the list; on return it is."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for place in places:
            self._process.stdin.write(f"{word} {place}\n".encode())
            await self._process.stdin.drain()
            await self._process.stdout.readline()

    async def stop(self) -> None:
        """End the process."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def obey(relay: Relay, word: str) -> None:
    """Carry out an order.

    Raises:
        ValueError: There is no such order.
    """
    match word:
        case "cut":
            relay.cut()
        case "cut-answers":
            relay.cut(answers_only=True)
        case "mend":
            relay.mend()
        case _:
            raise ValueError(f"no order: {word!r}")


async def _main(targets: Sequence[int]) -> None:
    relays = [Relay(target) for target in targets]
    for relay in relays:
        await relay.start()
    _say(json.dumps([relay.port for relay in relays]))
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, place = line.split()
        obey(relays[int(place)], word)
        _say("done")
    for relay in relays:
        await relay.stop()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main([int(port) for port in sys.argv[1:]]))
