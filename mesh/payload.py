"""Bytes that are JSON text or a serialized message, where nobody says which."""

import json
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

MessageT = TypeVar("MessageT", bound=Message)


def message_in(payload: bytes, kind: type[MessageT]) -> MessageT | None:
    """The message that the bytes are, serialized; None where they are text.

    What begins like an object or a list is text; what is a message of known fields is one.
    """
    begins_as_text = payload.lstrip()[:1] in {b"{", b"["}
    # A line feed may be the tag of a message's first field, and what follows that field's length: 91 or 123 bytes.
    if not payload or (begins_as_text and (payload[:1] != b"\n" or _is_json(payload))):
        return None
    try:
        message = kind.FromString(payload)
    except DecodeError:
        return None
    known = kind()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return message if known.ByteSize() == len(payload) else None


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
