"""A binding at work: one request's path, query and body to the rpc's message, and its response to a body."""

from typing import Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.decode.errors import Rejection
from gateway.decode.text import is_deeper, parse_strict, too_deep
from gateway.decode.types import MAX_DEPTH
from gateway.http.errors import UnreadableBody
from gateway.transcode.binding import WHOLE, Binding
from gateway.transcode.fields import fill_field, fill_message, fill_path, refuse
from gateway.transcode.query import fill_query

_NULL: Final = b"null"
_encode = msgspec.json.Encoder().encode


class Route:
    """Reads the requests and writes the responses of one binding."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self._request = GetMessageClass(binding.method.input_type)
        self._bound = frozenset(binding.path_fields)

    def read(self, captured: dict[str, str], query: str, body: bytes) -> Message:
        """The rpc's request.

        Args:
            captured: The text of each variable of the template.
            query: What follows the question mark, as it was sent.
            body: The body, inflated.

        Raises:
            InvalidArgument: A field does not fit, is unknown, or stands in two places.
            UnreadableBody: The body is no JSON that every reader understands in the same way.
        """
        message: Message = self._request()
        self._read_body(message, body)
        for name, text in captured.items():
            fill_path(message, self.binding.path_fields[name], text)
        fill_query(message, query, bound=self._bound, body=self.binding.body)
        return message

    def write(self, response: Message) -> bytes:
        """The body of an answer: every field that has no presence of its own is there, set or not."""
        if not self.binding.response_body:
            return _encode(_tree(response))
        field = response.DESCRIPTOR.fields_by_name[self.binding.response_body]
        if field.message_type is not None and not field.is_repeated:
            return _encode(_tree(getattr(response, field.name)))
        tree = _tree(response)
        return _encode(tree[field.json_name]) if field.json_name in tree else _NULL

    def _read_body(self, message: Any, body: bytes) -> None:
        wanted = self.binding.body
        if not wanted:
            if body:
                raise refuse("", "must be empty for this call", "type")
        elif wanted == WHOLE:
            fill_message(message, parse_body(body) if body else {}, bound=self._bound)
        elif body:
            field = message.DESCRIPTOR.fields_by_name[wanted]
            fill_field(message, field, parse_body(body), at=wanted, bound=self._bound)


def parse_body(body: bytes) -> Any:
    """The value of a JSON body.

    Raises:
        UnreadableBody: It is malformed, nested too deep, has a key twice, half a surrogate pair, or NaN.
    """
    try:
        _, value, mended = parse_strict(body)
    except Rejection as rejection:
        raise UnreadableBody(rejection.detail) from None
    if mended:
        raise UnreadableBody("JSON has no NaN and no Infinity; write them as text")
    if is_deeper(value, MAX_DEPTH):
        raise UnreadableBody(too_deep().detail)
    return value


def _tree(message: Message) -> Any:
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
