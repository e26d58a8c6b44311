"""One request body into its events, the good and the refused: one bad event never hurts its neighbours."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from clew.event.v1.event_pb2 import EventType
from clew.event.v1.failed_event_pb2 import FAILURE_REASON_MALFORMED_JSON
from gateway.decode.envelope import read_envelope
from gateway.decode.errors import Rejection, UnreadableBody
from gateway.decode.event import Surroundings, decode_event
from gateway.decode.rules import check_first, check_index
from gateway.decode.scrub import find_message_id, find_write_key, scrub
from gateway.decode.types import DecodedEvent, DecodedRequest, RejectedEvent

_Item = TypeVar("_Item")


def decode_request(body: bytes, route: EventType.ValueType | None, received_ns: int) -> DecodedRequest:
    """Decode the body of an HTTP request.

    A batch is a batch on every route, and the batch route takes a single event that has a `type`.

    Args:
        body: The JSON text, inflated.
        route: The call that the route stands for; None for the batch route.
        received_ns: When it was received, in Unix nanoseconds.

    Raises:
        UnreadableBody: No envelope can be read; the detail says at which byte.
    """
    envelope = read_envelope(body, lone_allowed=route is not None)
    around = Surroundings(
        received_ns=received_ns,
        type=route if envelope.lone else None,
        default_type=route,
        sent_ns=envelope.sent_ns,
        sent_unreadable=envelope.sent_unreadable,
        context=envelope.context,
        integrations=envelope.integrations,
    )
    decoded = decode_all(
        envelope.events, lambda text, index: decode_event(text, index, around, envelope.parts), reject_text
    )
    decoded.write_key = envelope.write_key
    if envelope.lone:
        _refuse_unreadable(decoded)
        if envelope.parts is None or envelope.parts.writeKey:
            decoded.write_key = find_write_key(body)
    return decoded


def decode_all(
    items: Sequence[_Item],
    decode: Callable[[_Item, int], DecodedEvent],
    reject: Callable[[_Item, int, Rejection], RejectedEvent],
) -> DecodedRequest:
    """Decode the items of a request one by one, in order; refuse those that are too many or repeat a message id."""
    events: list[DecodedEvent] = []
    rejected: list[RejectedEvent] = []
    seen: set[str] = set()
    for index, item in enumerate(items):
        try:
            check_index(index)
            event = decode(item, index)
            check_first(event.message_id, seen)
        except Rejection as rejection:
            rejected.append(reject(item, index, rejection))
        else:
            events.append(event)
    return DecodedRequest(write_key="", events=events, rejected=rejected, count=len(items))


def reject_text(text: bytes, index: int, rejection: Rejection) -> RejectedEvent:
    """Keep a refused event that came as JSON text."""
    return RejectedEvent(
        index=index,
        message_id=find_message_id(text),
        reason=rejection.reason,
        detail=rejection.detail,
        payload=scrub(text),
        size=len(text),
    )


def _refuse_unreadable(decoded: DecodedRequest) -> None:
    # A lone event is its own envelope: broken, there is nothing to answer 200 for.
    for event in decoded.rejected:
        if event.reason == FAILURE_REASON_MALFORMED_JSON:
            raise UnreadableBody(event.detail)
