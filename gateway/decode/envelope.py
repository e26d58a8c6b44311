"""What stands around the events: one of three shapes, told by the bytes and not by the route or the content type.

A batch (`{"batch": [...], "sentAt": ..., "writeKey": ...}`, with members that hold for all events), a bare array of
events, or one event. The route only says what a lone event is.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from gateway.decode.errors import Rejection, UnreadableBody
from gateway.decode.split import refuse_too_many, split_array, split_batch
from gateway.decode.text import MEMBERS, PARTS, Parts, parse_strict
from gateway.decode.times import parse_time
from gateway.decode.types import MAX_EVENT_BYTES, MAX_SHARED_BYTES, MAX_SHARED_BYTES_IN_ALL

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n"
_BATCH: Final = re.compile(rb'"batch"\s*+:\s*+')
_ELEMENTS: Final = msgspec.json.Decoder(list[Raw])
# What msgspec raises on text that it cannot split.
_UNSPLIT: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Envelope(Struct, frozen=True, eq=False, kw_only=True):
    """The texts of the events, and what holds for all of them. `lone`: the body is one event, maybe with its parts."""

    events: list[bytes]
    lone: bool = False
    parts: Parts | None = None
    write_key: str = ""
    sent_ns: int | None = None
    sent_unreadable: bool = False
    context: bytes = b""
    integrations: bytes = b""


def read_envelope(body: bytes, *, lone_allowed: bool) -> Envelope:
    """Find the events of a body.

    Args:
        body: JSON text, not yet checked.
        lone_allowed: A body that is an object without `batch` is an event, whatever its members.

    Raises:
        UnreadableBody: It is none of the three shapes, or its members outside of the events break JSON.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK).strip(_BLANK)
    if body.startswith(b"["):
        return Envelope(events=_elements(body))
    if not body.startswith(b"{"):
        raise UnreadableBody("JSON is malformed at byte 0: an object or an array must begin here")
    parts = _parts(body)
    if parts is None or parts.batch:
        found = _split(body) if b'"batch"' in body else None
        if found is not None:
            return _batch(*found)
    # What is wrong with a text that cannot be split, and at which byte, comes out when the event is decoded.
    if lone_allowed or parts is None or parts.type:
        return Envelope(events=[body], lone=True, parts=parts)
    raise UnreadableBody("the body has neither a `batch` array nor the `type` of an event (looked for from byte 0)")


def _parts(body: bytes) -> Parts | None:
    try:
        return PARTS.decode(body)
    except _UNSPLIT:
        return None


def _split(body: bytes) -> tuple[bytes, list[bytes]] | None:
    """The rest of a batch, with null for its events, and the events; None: the body is no batch."""
    try:
        batch = MEMBERS.decode(body).get("batch")
        if batch is None:
            return None
        events = _texts(_ELEMENTS.decode(batch))
    except msgspec.ValidationError:
        return None
    except _UNSPLIT:
        return split_batch(body)
    rest = _without(body, bytes(batch))
    return split_batch(body) if rest is None else (rest, events)


def _without(body: bytes, batch: bytes) -> bytes | None:
    """The body with null for its batch; None when the key is spelled in an unusual way."""
    for match in _BATCH.finditer(body):
        begin = match.end()
        if body.startswith(batch, begin):
            return body[:begin] + b"null" + body[begin + len(batch) :]
    return None


def _elements(body: bytes) -> list[bytes]:
    try:
        return _texts(_ELEMENTS.decode(body))
    except _UNSPLIT:
        return split_array(body)


def _texts(events: list[Raw]) -> list[bytes]:
    refuse_too_many(len(events))
    return [bytes(event) for event in events]


def _batch(rest: bytes, events: list[bytes]) -> Envelope:
    if len(rest) > MAX_EVENT_BYTES:
        raise UnreadableBody(f"the members beside `batch` have more than {MAX_EVENT_BYTES} bytes")
    try:
        rest, members, _ = parse_strict(rest)
    except Rejection as rejection:
        raise UnreadableBody(f"the members beside `batch` cannot be read: {rejection.detail}") from None
    write_key, sent_at = members.get("writeKey"), members.get("sentAt")
    sent_ns = parse_time(sent_at)
    context, integrations = _shared(rest, members, "context"), _shared(rest, members, "integrations")
    shared = len(context) + len(integrations)
    if shared > MAX_SHARED_BYTES or shared * len(events) > MAX_SHARED_BYTES_IN_ALL:
        raise UnreadableBody("the context beside `batch` is too large for so many events; put it into the events")
    return Envelope(
        events=events,
        write_key=write_key if type(write_key) is str else "",
        sent_ns=sent_ns,
        sent_unreadable=sent_ns is None and sent_at is not None,
        context=context,
        integrations=integrations,
    )


def _shared(rest: bytes, members: dict[str, Any], key: str) -> bytes:
    """The text of an object that holds for all events; what is no object says nothing."""
    return bytes(MEMBERS.decode(rest)[key]) if type(members.get(key)) is dict else b""
