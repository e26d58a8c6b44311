"""One request over one connection, by hand: hundreds may be under way while a mesh is away, and each must cost little.

A library's pool that holds hundreds of connections looks through all of them for each request; on a busy machine the
clients were then what was slow.
"""

import asyncio
import base64
from typing import NamedTuple
from urllib.parse import urlsplit

_END_OF_HEAD = b"\r\n\r\n"


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


async def post(url: str, body: bytes, *, user: str, seconds: float) -> Answer:
    """POST JSON and read the answer, whose length its head tells.

    Args:
        url: Of plain HTTP.
        body: What is sent.
        user: Of Basic authentication, without a password.
        seconds: How long all of it may take.

    Raises:
        OSError: There is no connection, or it broke; TimeoutError among them when the time is over.
        EOFError: It ended before the answer was whole.
    """
    target = urlsplit(url)
    credentials = base64.b64encode(f"{user}:".encode()).decode()
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            writer.write(head.encode() + body)
            told = await reader.readuntil(_END_OF_HEAD)
            return Answer(int(told[9:12]), await reader.readexactly(_length(told)))
        finally:
            writer.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("an answer without Content-Length")
