"""Child processes: started, watched, restarted with backoff when they crash, ended in order."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Ready = Callable[[], Awaitable[None]]
"""Returns once a process serves."""
STOP_SECONDS = 15.0
"""A child that still runs so long after SIGTERM is killed."""
_FIRST_BACKOFF = 0.5
_PR_SET_PDEATHSIG = 1
# Loaded here and not in the child, where little is safe between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_LONGEST_BACKOFF = 15.0
_STEADY_SECONDS = 30.0


@dataclass(slots=True)
class Child:
    """One process of the mesh. `ready` waits until it serves."""

    name: str
    module: str
    env: Mapping[str, str]
    log: Path
    ready: Ready
    restarts: int = 0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    _log_begins: int = 0
    """Where in its log the running process's own lines begin."""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def start(self) -> None:
        """Start the process; its output is appended to its log.

        It gets a session of its own, so that Ctrl-C reaches only us.
        """
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                start_new_session=True,
                preexec_fn=_end_with_parent if _LIBC else None,
            )

    async def wait_ready(self, seconds: float) -> None:
        """Wait until it serves.

        Raises:
            ChildFailed: It ended before, or does not serve within that time; the message holds the end of its log.
        """
        assert self.process is not None  # noqa: S101 - started before
        serving = asyncio.ensure_future(self.ready())
        ended = asyncio.ensure_future(self.process.wait())
        done, _ = await asyncio.wait({serving, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (serving, ended):
            if waiting not in done:
                waiting.cancel()
        if serving in done and serving.exception() is None:
            return
        reason = (
            f"ended with status {self.process.returncode}" if ended in done else f"does not serve after {seconds:g} s"
        )
        raise ChildFailed(f"{self.name} {reason}; the end of {self.log}:\n{tail(self.log, begin=self._log_begins)}")

    async def stop(self) -> None:
        """SIGTERM, wait for its drain, SIGKILL if it takes too long."""
        if self.pid is None or self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def _end_with_parent() -> None:
    """Ask Linux to send SIGTERM when the supervisor is gone, however it ended (prctl(2), PR_SET_PDEATHSIG)."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class ChildFailed(Exception):
    """Raised when a process of the mesh does not come up."""


async def keep_running(child: Child, say: Callable[[str], None], restarted: Ready | None = None) -> None:
    """Restart the child whenever it ends, at first after half a second, then more slowly while it keeps crashing.

    `restarted` is awaited each time that it serves again.
    """
    backoff = _FIRST_BACKOFF
    while True:
        started = time.monotonic()
        assert child.process is not None  # noqa: S101 - started before
        status = await child.process.wait()
        if time.monotonic() - started > _STEADY_SECONDS:
            backoff = _FIRST_BACKOFF
        say(f"{child.name} ended with status {status}; restarting in {backoff:g} s (log: {child.log})")
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, _LONGEST_BACKOFF)
        child.restarts += 1
        try:
            await child.start()
            await child.wait_ready(_LONGEST_BACKOFF)
            say(f"{child.name} serves again (restart {child.restarts})")
            if restarted is not None:
                await restarted()
        except (ChildFailed, OSError) as failure:
            # An OSError is about its log or the interpreter: it may pass, so that the next turn tries again.
            say(f"{child.name}: {failure}".partition("\n")[0])


def tail(path: Path, lines: int = 8, *, begin: int = 0) -> str:
    """The last lines of a log, of those that begin at a byte or after it."""
    try:
        with path.open("rb") as file:
            file.seek(max(begin, path.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(cannot be read: {error})"
    return "\n".join(text.splitlines()[-lines:])
