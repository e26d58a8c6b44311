"""The client libraries' processes: started, told to stop, and what was said to them and by them."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.audit import Claims
from tests.faults.sdk import LIBRARIES
from tests.support.proxy import Exchange

_OK: Final = 200
# More than the program itself takes.
_FINISH_SECONDS: Final = 90


@dataclass(frozen=True, slots=True)
class Books:
    """The message ids that one library was given to send, and those of them that it gave up."""

    library: str
    sent: list[str]
    failed: list[str]


def note(exchange: Exchange, claims: Claims) -> None:
    """Add what an edge answered to a library: the libraries do not read the verdicts, but they are promised."""
    if exchange.status == _OK:
        moment = time.time()
        for event in json.loads(exchange.body)["events"]:
            claims.tell(event["messageId"], event["verdict"], moment)


@dataclass(slots=True)
class Library:
    """A library's process."""

    name: str
    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, name: str, url: str, write_key: str, log: Path) -> "Library":
        """Start it; it sends at once."""
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.sdk", name, url, write_key),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
            )
        return cls(name, process)

    async def finish(self) -> Books:
        """Tell it to stop, and wait until it has delivered what it holds, for a minute at most.

        Raises:
            TimeoutError: It does not end.
        """
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(_FINISH_SECONDS):
            output, _ = await self.process.communicate()
        return Books(self.name, **json.loads(output))

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.process.returncode is None:
            self.process.kill()


async def start_all(url: str, write_key: str, folder: Path) -> list[Library]:
    """Start every library against one URL."""
    return [await Library.start(name, url, write_key, folder / f"{name}.log") for name in LIBRARIES]
