"""Writes to a stream, one at a time and in order: gRPC takes no second message before it has taken the first."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable


class Outbox:
    """Messages that wait for the stream. Nobody waits for them: a stream that breaks is noticed by who reads it.

    Args:
        write: Writes one message; raises when the stream is broken.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: deque[bytes] = deque()
        self._writer: asyncio.Task[None] | None = None

    def send(self, message: bytes) -> None:
        """Write the message after all before it."""
        self._waiting.append(message)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def flush(self) -> None:
        """Wait until all messages are written, or the stream has broken."""
        if self._writer is not None:
            await asyncio.wait((self._writer,))

    def close(self) -> None:
        """Write no more."""
        self._waiting.clear()
        if self._writer is not None:
            self._writer.cancel()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._write(self._waiting.popleft())
        except Exception:  # noqa: BLE001 - whatever gRPC raises for a stream that has ended; the reader learns why
            self._waiting.clear()
        finally:
            self._writer = None
