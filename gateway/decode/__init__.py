"""The decode stage: bytes from a client library in, typed events and typed rejections out. No clock, no I/O.

The wire's camelCase exists in this package only.
"""

from gateway.decode.errors import UnreadableBody
from gateway.decode.request import decode_request
from gateway.decode.typed import decode_typed

__all__ = ["UnreadableBody", "decode_request", "decode_typed"]
