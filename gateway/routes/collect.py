"""Events in over HTTP, a verdict for each out: the Segment calls, the batch, and the browser's short paths.

The answer is exactly 200 on every readable request, for the SDKs retry or drop a whole batch on anything else (measured
with five of them); what is wrong with single events stands in its body.
"""

import msgspec
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer

from clew.collector.v1.collector_service_pb2 import VERDICT_ACCEPTED
from clew.event.v1.event_pb2 import EventType
from gateway.batch import Outcome
from gateway.collect import Answer, Arrival, Collector
from gateway.credentials import Credentials, read_credentials
from gateway.decode import decode_request
from gateway.errors import RateLimited
from gateway.http.message import Abandon, DirectHandler, Headers, Pair, Reply, Request, Response, json_response
from gateway.http.problems import refusal
from gateway.limits.tarpit import Tarpit
from gateway.spans import CLIENT_GONE, end_span, parent_of, status_of
from gateway.stats import reason_name, verdict_name
from gateway.together import Together

_TYPES: dict[str, EventType.ValueType] = {
    "track": EventType.EVENT_TYPE_TRACK,
    "identify": EventType.EVENT_TYPE_IDENTIFY,
    "page": EventType.EVENT_TYPE_PAGE,
    "screen": EventType.EVENT_TYPE_SCREEN,
    "group": EventType.EVENT_TYPE_GROUP,
    "alias": EventType.EVENT_TYPE_ALIAS,
}
PATHS: dict[str, EventType.ValueType | None] = {
    **{f"/v1/{name}": number for name, number in _TYPES.items()},
    **{f"/v1/{name[0]}": number for name, number in _TYPES.items()},
    "/v1/batch": None,
    "/v1/b": None,
}
"""Every path that takes events, with the call that it stands for; None takes any. The short ones are analytics.js's."""

_VERDICTS = ("accepted", "duplicate", "rejected", "filtered", "deferred")
# Most answers of a busy edge are this one.
_ACCEPTED = (
    b'{"success":true,"accepted":1,"duplicate":0,"rejected":0,"filtered":0,"deferred":0,'
    b'"events":[{"messageId":%s,"verdict":"accepted"}]}'
)
_text = msgspec.json.Encoder().encode


class CollectHandler(DirectHandler):
    """The handler of one of `PATHS`.

    Args:
        collector: Carries the requests.
        tracer: Starts their spans.
        path: The one of `PATHS`.
        trust_forwarded: The client's address is the last one that a proxy wrote.
        tarpit: Holds back what sources are told that send too much.
    """

    __slots__ = (
        "_arrived",
        "_attributes",
        "_collector",
        "_event_type",
        "_name",
        "_replies",
        "_tarpit",
        "_tracer",
        "_trust_forwarded",
    )

    def __init__(
        self, collector: Collector, tracer: Tracer, path: str, *, trust_forwarded: bool, tarpit: Tarpit
    ) -> None:
        self._collector = collector
        self._tracer = tracer
        self._event_type = PATHS[path]
        self._trust_forwarded = trust_forwarded
        self._name = f"POST {path}"
        self._attributes = {"http.request.method": "POST", "http.route": path, "url.path": path, "url.scheme": "http"}
        self._arrived = Together[_Call](self._begin)
        self._tarpit = tarpit
        self._replies = Together[tuple[Reply, Response]](_send)

    def start(self, request: Request, reply: Reply) -> Abandon:
        """See `DirectHandler.start`."""
        call = _Call(request, reply, self._replies, self._tarpit)
        self._arrived.add(call)
        return call.abandon

    def _begin(self, arrived: "list[_Call]") -> None:
        waiting = [call for call in arrived if call.waits]
        for call in waiting:
            context = parent_of(call.request.headers)
            call.span = self._tracer.start_span(self._name, context, SpanKind.SERVER, self._attributes)
        for call in waiting:
            try:
                call.leave = self._collector.start(self._arrival(call), call.end)
            except Exception as error:  # noqa: BLE001 - it is this request's answer
                call.end(error)

    def _arrival(self, call: "_Call") -> Arrival:
        request, event_type = call.request, self._event_type
        headers = request.headers
        return Arrival(
            lambda: decode_request(request.body, event_type, request.received_ns),
            credentials_of(headers),
            call.span,
            request.received_ns,
            client_ip_of(request, trust_forwarded=self._trust_forwarded),
            len(request.body),
            _origin(headers),
            call.advice,
        )


def _send(replies: list[tuple[Reply, Response]]) -> None:
    for reply, response in replies:
        reply(response)


class _Call:
    """A request that is being answered."""

    __slots__ = ("_replies", "_reply", "_tarpit", "advice", "leave", "request", "span")

    def __init__(
        self, request: Request, reply: Reply, replies: Together[tuple[Reply, Response]], tarpit: Tarpit
    ) -> None:
        self.request = request
        self._reply: Reply | None = reply
        self._replies = replies
        self._tarpit = tarpit
        self.span: Span = INVALID_SPAN
        self.advice: list[Pair] = []
        self.leave: Abandon | None = None

    @property
    def waits(self) -> bool:
        """Whether its client waits for the answer."""
        return self._reply is not None

    def end(self, answer: Answer) -> None:
        """Reply; late, where the source sends too much."""
        if self._reply is None:
            return
        if isinstance(answer, BaseException):
            request = self.request
            request.trace_id = f"{self.span.get_span_context().trace_id:032x}"
            response = refusal(answer, request)
            if isinstance(answer, RateLimited):
                # The body is not needed any more, and others may need its room.
                size, request.body = len(request.body), b""
                status = status_of(answer)
                self._tarpit.hold(size, lambda: self._send(status, response))
            else:
                self._send(status_of(answer), response)
        else:
            response = _answer(answer)
            if self.advice:
                response.headers = tuple(self.advice)
            self._send(200, response)

    def _send(self, status: int, response: Response) -> None:
        reply, self._reply = self._reply, None
        # The client may have gone away while it was kept waiting.
        if reply is not None:
            end_span(self.span, status)
            self._replies.add((reply, response))

    def abandon(self) -> None:
        """The client went away."""
        if self._reply is not None:
            self._reply = None
            if self.leave is not None:
                self.leave()
            end_span(self.span, CLIENT_GONE)


def credentials_of(headers: Headers) -> Credentials:
    """What the sender of a request shows in its headers."""
    authorization, write_key = headers.get_raw(b"authorization"), headers.get_raw(b"x-write-key")
    return read_credentials(
        authorization.decode("latin-1") if authorization is not None else None,
        write_key.decode("latin-1") if write_key is not None else None,
    )


def _origin(headers: Headers) -> str:
    value = headers.get_raw(b"origin")
    return "" if value is None else value.decode("latin-1")


def client_ip_of(request: Request, *, trust_forwarded: bool) -> str:
    """The client's address; with `trust_forwarded` the last one that a proxy wrote."""
    if trust_forwarded:
        forwarded = request.headers.get_all("x-forwarded-for")
        if forwarded:
            return forwarded[-1].rpartition(",")[2].strip()[:45]
    return request.peer


def _answer(outcomes: list[Outcome]) -> Response:
    if len(outcomes) == 1 and outcomes[0].verdict == VERDICT_ACCEPTED:
        return Response(200, _ACCEPTED % _text(outcomes[0].message_id))
    events = [_event(outcome) for outcome in outcomes]
    counts = dict.fromkeys(_VERDICTS, 0)
    for event in events:
        counts[event["verdict"]] += 1
    return json_response(200, {"success": True, **counts, "events": events})


def _event(outcome: Outcome) -> dict[str, str]:
    event = {"messageId": outcome.message_id, "verdict": verdict_name(outcome)}
    reason = reason_name(outcome)
    if reason:
        event["reason"] = reason
        event["detail"] = outcome.detail
    return event
