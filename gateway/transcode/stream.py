"""A stream of messages as a body: one line of JSON each (NDJSON), or server-sent events where the client asks for them.

A failure after the beginning cannot change the status any more: it is the last line, or an event named `error`, and the
body is cut off after it, so that nobody takes the stream for complete.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
from google.protobuf.message import Message

from mesh.errors import ClewError, Internal
from mesh.status import problem

NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"

# Longer than an early refusal takes, and short enough for a client that waits for the head of a quiet stream.
FIRST_SECONDS: Final = 1.0
# Proxies close connections that are silent for a minute, some for half of one.
KEEPALIVE_SECONDS: Final = 15.0

_encode = msgspec.json.Encoder().encode
Write = Callable[[Message], bytes]


def wants_events(accept: str | None) -> bool:
    """Whether an Accept header (RFC 9110, section 12.5.1) names server-sent events and does not refuse them."""
    for part in (accept or "").split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind == SSE:
            weights = [one.partition("=")[2].strip() for one in parameters if one.startswith("q")]
            return not weights or weights[0].strip("0.") != ""
    return False


class MessageStream:
    """The pieces of a body for a stream of messages.

    Args:
        items: The messages.
        write: A message as JSON on one line.
        trace_id: For the problem in which a failure ends.
        events: Server-sent events, not NDJSON.
        ended: Called once, with what ended the stream: None at its end.
    """

    def __init__(
        self,
        items: AsyncIterator[Message],
        write: Write,
        *,
        trace_id: str,
        events: bool,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self._items = items
        self._write = write
        self._trace_id = trace_id
        self._events = events
        self._ended: Callable[[BaseException | None], None] | None = ended
        self._next: asyncio.Task[Message | None] | None = None
        self._failure: BaseException | None = None

    async def begin(self) -> None:
        """Wait for the first message, a second at most, so that an early refusal still has a status of its own.

        Raises:
            ClewError: The rpc refused before it sent anything.
        """
        task = self._start_next()
        try:
            await asyncio.wait({task}, timeout=FIRST_SECONDS)
            if task.done() and task.exception() is not None:
                task.result()
        except BaseException as error:
            self._end(error)
            await self.aclose()
            raise

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        if self._failure is not None:
            raise self._failure
        task = self._next or self._start_next()
        if not (await asyncio.wait({task}, timeout=KEEPALIVE_SECONDS if self._events else None))[0]:
            return b":\n\n"
        self._next = None
        try:
            item = task.result()
        except Exception as error:  # noqa: BLE001 - told to the client, then raised for whoever sends the pieces
            self._failure = error
            self._end(error)
            return self._failed(error)
        if item is None:
            self._end(None)
            raise StopAsyncIteration
        text = self._write(item)
        return b"data: %b\n\n" % text if self._events else text + b"\n"

    async def aclose(self) -> None:
        """End the call; the client went away if nothing else had ended it."""
        self._end(asyncio.CancelledError())
        task, self._next = self._next, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()

    def _start_next(self) -> asyncio.Task[Message | None]:
        self._next = asyncio.create_task(self._take())
        return self._next

    async def _take(self) -> Message | None:
        return await anext(self._items, None)

    def _failed(self, error: Exception) -> bytes:
        refusal = error if isinstance(error, ClewError) else Internal()
        text = problem(refusal, self._trace_id)
        return b"event: error\ndata: %b\n\n" % _encode(text) if self._events else _encode({"error": text}) + b"\n"

    def _end(self, error: BaseException | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)
