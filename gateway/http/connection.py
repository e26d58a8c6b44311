"""One connection: requests in, one at a time and in order; responses out.

    IDLE -> HEAD -> BODY -> ANSWERING -> [STREAMING] -> [SENDING] -> IDLE ...
                                      any -> CLOSING

A handler that needs no task is called at once (`DirectHandler`); any other one, and every body that must be inflated
first, has a task.

While a request is answered the socket is still read, because that is how a client's hang-up is noticed; what arrives is
held, up to a bound, and looked at when the answer is out.
"""

import asyncio
import math
from enum import Enum, auto
from typing import cast

import structlog

from gateway.http.edge import Edge
from gateway.http.errors import RequestTimeout
from gateway.http.head import Head
from gateway.http.incoming import Incoming
from gateway.http.inflate import encoded, inflate
from gateway.http.message import Abandon, Request, Response, Stream
from gateway.http.problems import new_trace_id, problem_response, refusal
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


def _nothing() -> None:
    """Abandons what has just begun."""


class Connection(asyncio.Protocol):
    """Reads requests from one client, has each answered, and keeps the client to the limits."""

    __slots__ = (
        "_abandon", "_deadline", "_edge", "_holding", "_incoming", "_later", "_peer", "_phase", "_reading_paused",
        "_resumed", "_started_at", "_transport", "_writing_paused",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._transport: asyncio.Transport
        self._peer = ""
        self._phase = Phase.IDLE
        self._deadline = math.inf
        self._incoming = Incoming(edge.limits)
        self._started_at = 0.0
        # Set while a request is answered.
        self._abandon: Abandon | None = None
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
        if (phase is _IDLE or phase is _BODY or phase is Phase.HEAD) and not self._later:
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
            whole = self._incoming.feed(data)
            if whole is not None:
                self._start(*whole)
            elif self._incoming.head is not None:
                self._wait_for_body()
            elif self._incoming.started and self._phase is _IDLE:
                self._enter(Phase.HEAD, self._edge.limits.header_seconds)
        except ClewError as error:
            self._refuse(error)
        except Exception:  # noqa: BLE001 - logged with its traceback; one bad connection must not take others along
            trace_id = new_trace_id()
            _log.exception("reading a request failed", trace_id=trace_id)
            self._refuse(Internal(), trace_id)

    def _wait_for_body(self) -> None:
        head, received = self._incoming.head, self._incoming.received
        if self._phase is not _BODY:
            self._phase = _BODY
            self._started_at = self._edge.loop.time()
            self._deadline = self._body_deadline()
            if head is not None and head.expects_continue and not received:
                self._transport.write(CONTINUE)
        self._hold(received)

    def _body_deadline(self) -> float:
        limits = self._edge.limits
        earned = limits.body_seconds + self._incoming.received / limits.body_bytes_per_second
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
        self._abandon = _nothing
        try:
            abandon = self._begin(request, head)
        except Exception as error:  # noqa: BLE001 - logged with its traceback unless it is a refusal
            self._reply(request, refusal(error, request))
        else:
            # It may have replied already.
            if self._abandon is _nothing:
                self._abandon = abandon

    def _begin(self, request: Request, head: Head) -> Abandon:
        """Let the request be answered; it may be when this returns."""
        wbits = encoded(request.body, head.headers.get_raw(b"content-encoding")) if request.body else None
        direct = self._edge.find_direct(request) if wbits is None else None
        if direct is None:
            return self._edge.loop.create_task(self._answer(request, wbits)).cancel
        return direct.start(request, lambda response: self._reply(request, response))

    def _reply(self, request: Request, response: Response) -> None:
        if self._phase is _ANSWERING:
            self._forget_request()
            self._let_go()
            self._respond(request, response)

    async def _answer(self, request: Request, wbits: int | None) -> None:
        response = await self._handle(request, wbits)
        if response.stream is not None:
            await self._answer_in_pieces(request, response, response.stream)
        else:
            self._reply(request, response)

    async def _handle(self, request: Request, wbits: int | None) -> Response:
        """The handler's response; whatever it raises is a response too, except the cancellation that we asked for."""
        try:
            if wbits is not None:
                await self._inflate(request, wbits)
            return await self._edge.handler(request)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return refusal(error, request)
        except Exception as error:  # noqa: BLE001 - logged with its traceback unless it is a refusal
            return refusal(error, request)

    async def _answer_in_pieces(self, request: Request, response: Response, stream: Stream) -> None:
        head = self._incoming.head
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
            self._forget_request()
            self._close()
        else:
            self._forget_request()
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

    def _respond(self, request: Request, response: Response) -> None:
        head = self._incoming.head
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
        """Turn to the next request; what has come of it already is looked at in the loop's next turn.

        Not now: a client that sends hundreds at once, each answered at once, would be a recursion.
        """
        self._incoming.next()
        self._enter(_IDLE, self._edge.limits.idle_seconds)
        if self._later:
            self._edge.loop.call_soon(self._receive_later)
        else:
            self._resume_reading()

    def _receive_later(self) -> None:
        self._resume_reading()
        data = bytes(self._later)
        self._later.clear()
        if data and self._phase is not Phase.CLOSING:
            self._receive(data)

    def _refuse(self, error: ClewError, trace_id: str = "") -> None:
        """Answer for a request that no handler saw, and close: where the next one would begin is not known."""
        self._let_go()
        head = self._incoming.head
        head_only = head is not None and head.method == "HEAD"
        self._write(problem_response(error, trace_id or new_trace_id()), b"close", head_only=head_only)
        self._linger()

    def _write(self, response: Response, connection: bytes, *, head_only: bool) -> None:
        edge = self._edge
        try:
            if (head := self._incoming.head) is not None:
                response = edge.decorate(head.headers, response)
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
        abandon = self._forget_request()
        if abandon is not None:
            abandon()

    def _forget_request(self) -> Abandon | None:
        # Counted here and not at a task's end: one that is cancelled before its first step runs none of its code.
        abandon, self._abandon = self._abandon, None
        if abandon is not None:
            self._edge.in_flight -= 1
        return abandon

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
