"""One connection: requests in, one at a time and in order; responses out.

    IDLE -> HEAD -> BODY -> ANSWERING -> [STREAMING] -> [SENDING] -> IDLE ...
                                      any -> CLOSING

While a request is answered the socket is still read, because that is how a client's hang-up is noticed; what arrives is
held, up to a bound, and looked at when the answer is out.
"""

import asyncio
import math
from enum import Enum, auto
from typing import cast

import structlog

from gateway.http.body import ChunkedBody, SizedBody
from gateway.http.edge import Edge
from gateway.http.errors import RequestTimeout
from gateway.http.head import CHUNKED, Head, HeadReader
from gateway.http.inflate import encoded, inflate
from gateway.http.message import Request, Response, Stream
from gateway.http.problems import new_trace_id, problem_response
from gateway.http.streaming import send_pieces
from gateway.http.wire import CONTINUE, render, render_stream_head
from mesh.errors import ClewError, Draining, Internal

_log = structlog.get_logger()


class Phase(Enum):
    """What a connection is doing."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    STREAMING = auto()
    SENDING = auto()
    CLOSING = auto()


# Asked for with every request, and a member of an enumeration costs five times a name.
_IDLE, _BODY, _ANSWERING = Phase.IDLE, Phase.BODY, Phase.ANSWERING


class Connection(asyncio.Protocol):
    """Reads requests from one client, has each answered, and keeps the client to the limits."""

    __slots__ = (
        "_body", "_deadline", "_edge", "_head", "_holding", "_later", "_peer", "_phase", "_reader", "_reading_paused",
        "_resumed", "_started_at", "_task", "_transport", "_writing_paused",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._transport: asyncio.Transport
        self._peer = ""
        self._phase = Phase.IDLE
        self._deadline = math.inf
        self._reader = HeadReader(edge.limits)
        self._head: Head | None = None
        self._body: SizedBody | ChunkedBody | None = None
        self._started_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._later = bytearray()
        self._holding = 0
        self._reading_paused = False
        self._writing_paused = False
        self._resumed: asyncio.Future[None] | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; refuse when the server is full or stopping."""
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self._peer = name[0].removeprefix("::ffff:") if isinstance(name, tuple) else ""
        self._enter(Phase.IDLE, self._edge.limits.first_seconds)
        try:
            self._edge.admit(self)
        except ClewError as error:
            self._refuse(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes, wherever the client or the network has cut them."""
        phase = self._phase
        if phase is _IDLE or phase is _BODY or phase is Phase.HEAD:
            self._receive(data)
        elif phase is not Phase.CLOSING:
            self._keep_for_later(data)

    def eof_received(self) -> None:
        """The client will send no more: it has hung up, and whatever it asked for is no longer wanted."""
        self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Forget everything."""
        self._phase = Phase.CLOSING
        self._cancel()
        self._let_go()
        self._edge.remove(self)

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writing_paused = False
        if self._phase is Phase.SENDING:
            self._next()
        elif self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    # What the server calls

    def expire(self, now: float) -> None:
        """Act if the deadline of the phase has passed; `now` is the loop's time."""
        if now < self._deadline:
            return
        limits = self._edge.limits
        match self._phase:
            case Phase.IDLE:
                self._close()
            case Phase.HEAD:
                self._refuse(RequestTimeout("the head came too slowly", limit_seconds=f"{limits.header_seconds:g}"))
            case Phase.BODY:
                self._deadline = self._body_deadline()
                if now >= self._deadline:
                    self._refuse(RequestTimeout("the body came too slowly", limit_seconds=f"{limits.body_seconds:g}"))
            case _:
                self.abort()

    def drain(self) -> None:
        """Close if nothing is under way but a stream, which might never end by itself."""
        if self._phase is Phase.STREAMING:
            self._cancel()
            self._close()
        elif self._phase is Phase.IDLE:
            self._close()

    def cut(self) -> None:
        """Answer 503 to what is under way, and close."""
        if self._phase in {Phase.HEAD, Phase.BODY, Phase.ANSWERING}:
            self._cancel()
            self._refuse(Draining())
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._transport.abort()

    # Receiving

    def _receive(self, data: bytes) -> None:
        try:
            if self._phase is _BODY:
                self._receive_body(data)
            else:
                self._receive_head(data)
        except ClewError as error:
            self._refuse(error)
        except Exception:  # noqa: BLE001 - logged with its traceback; one bad connection must not take others along
            trace_id = new_trace_id()
            _log.exception("reading a request failed", trace_id=trace_id)
            self._refuse(Internal(), trace_id)

    def _receive_head(self, data: bytes) -> None:
        reader = self._reader
        head = reader.feed(data)
        if head is None:
            if reader.started and self._phase is Phase.IDLE:
                self._enter(Phase.HEAD, self._edge.limits.header_seconds)
            return
        self._head = head
        rest = reader.rest
        if 0 <= head.length <= min(len(rest), self._edge.limits.body_bytes):
            self._start(head, rest[: head.length], rest[head.length :])
        else:
            self._begin_body(head, rest)

    def _begin_body(self, head: Head, rest: bytes) -> None:
        limits = self._edge.limits
        self._body = ChunkedBody(limits) if head.length == CHUNKED else SizedBody(head.length, limits)
        self._started_at = self._edge.loop.time()
        self._phase = Phase.BODY
        self._deadline = self._body_deadline()
        if rest:
            self._receive_body(rest)
        elif head.expects_continue:
            self._transport.write(CONTINUE)

    def _receive_body(self, data: bytes) -> None:
        body, head = self._body, self._head
        if body is None or head is None:
            raise RuntimeError("a body without a head")
        rest = body.feed(data)
        self._hold(body.received)
        if body.done:
            self._body = None
            self._start(head, body.take(), rest)

    def _body_deadline(self) -> float:
        limits = self._edge.limits
        received = self._body.received if self._body else 0
        earned = limits.body_seconds + received / limits.body_bytes_per_second
        return self._started_at + min(limits.body_total_seconds, earned)

    def _keep_for_later(self, data: bytes) -> None:
        self._later += data
        if len(self._later) > self._edge.limits.pipelined_bytes and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    # Answering

    def _start(self, head: Head, body: bytes, rest: bytes) -> None:
        self._hold(len(body))
        self._phase = _ANSWERING
        self._deadline = math.inf
        if rest:
            self._keep_for_later(rest)
        received_ns = self._edge.clock.now_ns()
        request = Request(
            head.method, head.path, head.query, head.headers, body, self._peer, received_ns, "", head.raw_path
        )
        self._edge.in_flight += 1
        self._task = self._edge.loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        response = await self._handle(request)
        if response.stream is not None:
            await self._answer_in_pieces(request, response, response.stream)
        elif self._phase is _ANSWERING:
            self._forget_task()
            self._let_go()
            self._respond(request, response)

    async def _handle(self, request: Request) -> Response:
        """The handler's response; whatever it raises is a response too, except the cancellation that we asked for."""
        try:
            wbits = encoded(request.body, request.headers.get_raw(b"content-encoding")) if request.body else None
            if wbits is not None:
                await self._inflate(request, wbits)
            return await self._edge.handler(request)
        except ClewError as error:
            return problem_response(error, request.trace_id or new_trace_id())
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return self._internal(request)
        except Exception:  # noqa: BLE001 - logged with its traceback; the client learns nothing of it
            return self._internal(request)

    async def _answer_in_pieces(self, request: Request, response: Response, stream: Stream) -> None:
        head = self._head
        chunked = head is not None and not head.http_1_0
        connection = b"" if chunked and head is not None and head.keep_alive and not self._edge.draining else b"close"
        try:
            if self._phase is not _ANSWERING or head is None:
                return
            self._let_go()
            self._phase = Phase.STREAMING
            response = self._edge.decorate(head.headers, response)
            date = self._edge.date
            self._transport.write(render_stream_head(response, date=date, connection=connection, chunked=chunked))
            if request.method != "HEAD":
                await send_pieces(stream, self._transport.write, self._writable, chunked=chunked)
        except Exception as error:  # noqa: BLE001 - logged with its traceback; the client sees a body that was cut off
            if not isinstance(error, ClewError):
                _log.exception("a stream failed", trace_id=request.trace_id, method=request.method)
            self._forget_task()
            self._close()
        else:
            self._forget_task()
            self._end_response(keep_alive=not connection, wanted=head.keep_alive)
        finally:
            await stream.aclose()

    async def _writable(self) -> None:
        """Wait for a client that reads slower than we write; `expire` ends the wait for one that does not read."""
        if self._writing_paused:
            self._resumed = self._edge.loop.create_future()
            self._deadline = self._edge.loop.time() + self._edge.limits.send_seconds
            await self._resumed
            self._deadline = math.inf

    async def _inflate(self, request: Request, wbits: int) -> None:
        edge = self._edge
        inflated = await inflate(request.body, wbits, edge.limits, edge.pool)
        self._hold(len(inflated))
        request.body = inflated

    def _internal(self, request: Request) -> Response:
        trace_id = request.trace_id or new_trace_id()
        _log.exception("the handler failed", trace_id=trace_id, method=request.method, path=request.path)
        return problem_response(Internal(), trace_id)

    def _respond(self, request: Request, response: Response) -> None:
        head = self._head
        wanted = head is not None and head.keep_alive
        keep_alive = wanted and not self._edge.draining
        connection = b"close" if not keep_alive else b"keep-alive" if head is not None and head.http_1_0 else b""
        self._write(response, connection, head_only=request.method == "HEAD")
        self._end_response(keep_alive=keep_alive, wanted=wanted)

    def _end_response(self, *, keep_alive: bool, wanted: bool) -> None:
        if not keep_alive:
            # A client that asked for the end sends no more, so nothing of the answer can be lost to a reset.
            self._linger() if wanted or self._later else self._close()
        elif self._writing_paused:
            self._enter(Phase.SENDING, self._edge.limits.send_seconds)
        else:
            self._next()

    def _next(self) -> None:
        """Turn to the next request; what has come of it already is looked at now."""
        self._head = None
        self._reader = HeadReader(self._edge.limits)
        self._enter(_IDLE, self._edge.limits.idle_seconds)
        self._resume_reading()
        if self._later:
            data = bytes(self._later)
            self._later.clear()
            self._receive(data)

    def _refuse(self, error: ClewError, trace_id: str = "") -> None:
        """Answer for a request that no handler saw, and close: where the next one would begin is not known."""
        self._let_go()
        method = self._head.method if self._head else ""
        self._write(problem_response(error, trace_id or new_trace_id()), b"close", head_only=method == "HEAD")
        self._linger()

    def _write(self, response: Response, connection: bytes, *, head_only: bool) -> None:
        edge = self._edge
        try:
            if self._head is not None:
                response = edge.decorate(self._head.headers, response)
            data = render(response, date=edge.date, connection=connection, head_only=head_only)
        except Exception:  # noqa: BLE001 - a fault of ours, logged; the client waits for an answer
            _log.exception("a response cannot be sent")
            failure = problem_response(Internal(), new_trace_id())
            data = render(failure, date=edge.date, connection=connection, head_only=head_only)
        self._transport.write(data)

    # Ending

    def _close(self) -> None:
        self._enter(Phase.CLOSING, self._edge.limits.send_seconds)
        self._transport.close()

    def _linger(self) -> None:
        """Close our side and take what still comes for a while.

        Closing on unread bytes resets the connection, and a reset can overtake the answer.
        """
        self._enter(Phase.CLOSING, self._edge.limits.linger_seconds)
        self._later.clear()
        self._resume_reading()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def _cancel(self) -> None:
        task = self._forget_task()
        if task is not None:
            task.cancel()

    def _forget_task(self) -> asyncio.Task[None] | None:
        # Counted here and not at the task's end: a task that is cancelled before its first step runs none of its code.
        task, self._task = self._task, None
        if task is not None:
            self._edge.in_flight -= 1
        return task

    # Small things

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self._deadline = self._edge.loop.time() + seconds

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _hold(self, size: int) -> None:
        """Account for a body of so many bytes."""
        self._edge.hold(size - self._holding)
        self._holding = size

    def _let_go(self) -> None:
        self._edge.release(self._holding)
        self._holding = 0
