"""What every event must keep, whichever door it came through."""

from clew.event.v1.event_pb2 import (
    EVENT_TYPE_ALIAS,
    EVENT_TYPE_GROUP,
    EVENT_TYPE_TRACK,
)
from clew.event.v1.failed_event_pb2 import (
    FAILURE_REASON_DUPLICATE_MESSAGE_ID,
    FAILURE_REASON_EVENT_TOO_LARGE,
    FAILURE_REASON_INVALID_FIELD,
    FAILURE_REASON_MISSING_FIELD,
    FAILURE_REASON_MISSING_IDENTIFIER,
)
from gateway.decode.errors import Rejection
from gateway.decode.types import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, DecodedEvent


def check_size(size: int) -> None:
    """Refuse an event of more than 32 KB.

    Raises:
        Rejection: EVENT_TOO_LARGE.
    """
    if size > MAX_EVENT_BYTES:
        raise Rejection(
            FAILURE_REASON_EVENT_TOO_LARGE,
            f"the event has {size} bytes, the limit is {MAX_EVENT_BYTES}; send less in one",
        )


def check_index(index: int) -> None:
    """Refuse the events of a request that come after the first 2,500.

    Raises:
        Rejection: INVALID_FIELD.
    """
    if index >= MAX_BATCH_EVENTS:
        raise Rejection(
            FAILURE_REASON_INVALID_FIELD, f"a request takes {MAX_BATCH_EVENTS} events; send those beyond in another"
        )


def check_identifier(name: str, value: str, most_chars: int) -> None:
    """Refuse an id that is too long, or has a NUL in it, which databases cut text at.

    Raises:
        Rejection: INVALID_FIELD.
    """
    if len(value) > most_chars:
        raise Rejection(FAILURE_REASON_INVALID_FIELD, f"{name} is longer than {most_chars} characters")
    if "\0" in value:
        raise Rejection(FAILURE_REASON_INVALID_FIELD, f"{name} has a NUL character in it")


def check_subject(event: DecodedEvent) -> None:
    """Refuse an event that does not say whom, or what, it is about.

    Raises:
        Rejection: MISSING_IDENTIFIER or MISSING_FIELD.
    """
    if not event.anonymous_id and not event.user_id:
        raise Rejection(FAILURE_REASON_MISSING_IDENTIFIER, "the event needs an anonymous id or a user id")
    call = event.type
    if call == EVENT_TYPE_TRACK:
        if not event.event:
            raise Rejection(FAILURE_REASON_MISSING_FIELD, "a track call needs the name of its event")
    elif call == EVENT_TYPE_GROUP:
        if not event.group_id:
            raise Rejection(FAILURE_REASON_MISSING_FIELD, "a group call needs a group id")
    elif call == EVENT_TYPE_ALIAS and not (event.previous_id and event.user_id):
        raise Rejection(FAILURE_REASON_MISSING_FIELD, "an alias call needs a previous id and a user id")


def check_first(message_id: str, seen: set[str]) -> None:
    """Refuse an event whose message id an accepted event of the same request has; remember the id otherwise.

    Raises:
        Rejection: DUPLICATE_MESSAGE_ID.
    """
    if message_id in seen:
        raise Rejection(
            FAILURE_REASON_DUPLICATE_MESSAGE_ID, "an event before it in the same request has the same message id"
        )
    seen.add(message_id)
