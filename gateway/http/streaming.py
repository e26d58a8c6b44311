"""A body in pieces, framed for HTTP/1.1 (RFC 9112, section 7.1) or, for HTTP/1.0, up to the end of the connection."""

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.http.message import Stream

_END: Final = b"0\r\n\r\n"


async def send_pieces(
    stream: Stream, write: Callable[[bytes], object], writable: Callable[[], Awaitable[None]], *, chunked: bool
) -> None:
    """Send every piece as it comes, never more than the client takes, and what ends the body.

    An exception of the stream goes on to the caller, with the body not ended: the client can tell.
    """
    async for piece in stream:
        if piece:
            write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writable()
    if chunked:
        write(_END)
