"""The client libraries' processes: started, told to stop, and what their books say."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.audit import Claims
from tests.faults.sdk import LIBRARIES

# A library that was refused often waits long before it tries again; the longest wait seen is some 20 s.
_FINISH_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Books:
    """What one library sent, and how much of it the library gave up or, if it did not end in time, never told us."""

    library: str
    sent: list[str]
    failed: list[str]
    finished: bool = True

    def enter(self, claims: Claims) -> None:
        """Add them to the claims: what a library was given and did not give up, it was answered 200 for.

        It does not tell when, so that each counts as acknowledged now.
        """
        claims.sent.update(self.sent, self.failed)
        now = time.time()
        given_up = set(self.failed)
        for message_id in self.sent if self.finished else ():
            if message_id not in given_up:
                claims.tell(message_id, "accepted", now)


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
        """Tell it to stop and wait until all that it was given is delivered or given up."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            output, _ = await asyncio.wait_for(self.process.communicate(), _FINISH_SECONDS)
            return Books(self.name, **json.loads(output))
        except (TimeoutError, ValueError):
            self.kill()
            await self.process.wait()
            return Books(self.name, [], [], finished=False)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.process.returncode is None:
            self.process.kill()


async def start_all(url: str, write_key: str, folder: Path) -> list[Library]:
    """Start every library against one URL."""
    return [await Library.start(name, url, write_key, folder / f"{name}.log") for name in LIBRARIES]
