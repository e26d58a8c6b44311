"""One HTTP request to one rpc: find it, check who asks, read, call, answer."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from opentelemetry.context import attach
from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context

from gateway.http.errors import MethodNotAllowed
from gateway.http.message import Handler, Request, Response
from gateway.spans import end_span, parent_of, status_of
from gateway.transcode.access import Guard
from gateway.transcode.binding import bindings_of
from gateway.transcode.calls import Calls, ServerStream, Unary
from gateway.transcode.route import Route
from gateway.transcode.stream import NDJSON, SSE, MessageStream, wants_events
from gateway.transcode.table import RouteTable
from mesh.deadline import set_deadline

T = TypeVar("T")

# Above so many bytes a conversion takes milliseconds: in a thread, the loop gets its turns in between.
_LARGE_BYTES: Final = 32 * 1024
_OK: Final = 200
_NO_STORE: Final = (("cache-control", "no-store"),)

_Entry = Callable[[dict[str, str], Request], Any]


class Transcoder:
    """Serves the rpcs of services by their `google.api.http` bindings.

    Args:
        guard: Checks who may call.
        tracer: Starts a span for each request.
        request_seconds: How long a unary rpc may take; a stream lasts as long as its two ends want it to.
    """

    def __init__(self, guard: Guard, tracer: Tracer, *, request_seconds: float) -> None:
        self._guard = guard
        self._tracer = tracer
        self._seconds = request_seconds
        self._table: RouteTable[_Entry] = RouteTable()
        # One thread: two large conversions beside the loop would leave it a third of a core.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="transcode")

    def add(self, service: ServiceDescriptor, calls: Calls) -> None:
        """Serve all rpcs of a service that have a binding.

        Raises:
            BindingError: A binding breaks the rules, or its rpc does not declare who may call it.
            TemplateError: A path is malformed, or another rpc has it.
        """
        for binding in bindings_of(service):
            route = Route(binding)
            serve: _Entry
            if binding.method.server_streaming:
                serve = functools.partial(self._serve_stream, route, calls.stream(binding.method))
            else:
                serve = functools.partial(self._serve, route, calls.unary(binding.method))
            self._table.add(binding.http_method, binding.template, serve)

    def find(self, method: str, path: str) -> Handler | None:
        """The handler for a method and a path as it was sent; None when no rpc has the path.

        Raises:
            MethodNotAllowed: Rpcs have the path, none of them with this method.
        """
        match = self._table.find(method, path)
        if match is not None:
            return functools.partial(match.entry, match.captured)
        methods = self._table.methods(path)
        if not methods:
            return None
        allow = ", ".join(sorted({*methods, *({"HEAD"} if "GET" in methods else ()), "OPTIONS"}))
        raise MethodNotAllowed(f"this path takes {allow}", allow=allow)

    def close(self) -> None:
        """Let go of the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, route: Route, call: Unary, captured: dict[str, str], request: Request) -> Response:
        span = self._start(route, request)
        set_deadline(self._seconds)
        try:
            message = await self._read(route, captured, request)
            response = await call(message, request)
            body = await self._aside(response.ByteSize(), lambda: route.write(response))
        except BaseException as error:
            end_span(span, status_of(error))
            raise
        end_span(span, _OK)
        return Response(_OK, body, headers=_NO_STORE)

    async def _serve_stream(
        self, route: Route, call: ServerStream, captured: dict[str, str], request: Request
    ) -> Response:
        span = self._start(route, request)
        try:
            message = await self._read(route, captured, request)
        except BaseException as error:
            end_span(span, status_of(error))
            raise
        events = wants_events(request.headers.get("accept"))
        stream = MessageStream(
            call(message, request),
            route.write,
            trace_id=request.trace_id,
            events=events,
            ended=lambda error: end_span(span, _OK if error is None else status_of(error)),
        )
        await stream.begin()
        return Response(_OK, b"", SSE if events else NDJSON, _NO_STORE, stream)

    def _start(self, route: Route, request: Request) -> Span:
        """Start the request's span and make it current: the task is the request's own, so that nothing is to be undone.

        The path itself is not recorded: it names people. The route is.
        """
        binding = route.binding
        template = binding.template.text
        attributes = {"http.request.method": request.method, "http.route": template, "url.scheme": "http"}
        parent = parent_of(request.headers)
        span = self._tracer.start_span(f"{request.method} {template}", parent, SpanKind.SERVER, attributes)
        request.trace_id = f"{span.get_span_context().trace_id:032x}"
        attach(set_span_in_context(span, parent))
        return span

    async def _read(self, route: Route, captured: dict[str, str], request: Request) -> Message:
        await self._guard.check(route.binding.access, request.headers)
        return await self._aside(len(request.body), lambda: route.read(captured, request.query, request.body))

    async def _aside(self, size: int, convert: Callable[[], T]) -> T:
        """Convert here what is small, and in the thread what is large."""
        if size <= _LARGE_BYTES:
            return convert()
        return await asyncio.get_running_loop().run_in_executor(self._pool, convert)
