"""The two values that a handler sees: a request that is complete and checked, and the response it answers with."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Protocol

import msgspec
from msgspec import Struct

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

Pair = tuple[str, str]


class Headers:
    """The fields of a request's head: names without regard to case, in the order and number in which they came.

    Bytes are decoded (Latin-1, which cannot fail) only for the fields that somebody asks for.
    """

    __slots__ = ("_first", "get_raw", "raw")

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        """`raw` holds pairs of a lower-case name and the value without surrounding white space."""
        self.raw = raw
        # Reversed, so that the first of several fields of one name is the one that stays.
        self._first = dict(reversed(raw))
        self.get_raw: Callable[[bytes], bytes | None] = self._first.get
        """The first value of that lower-case name as it was sent: the cheapest look-up."""

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> "Headers":
        """Headers from text, for callers that did not read them from a connection."""
        return cls([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs])

    def get(self, name: str) -> str | None:
        """The first value of that name, or None."""
        value = self._first.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def repeats(self) -> bool:
        """Whether any name came more than once."""
        return len(self._first) != len(self.raw)

    def __contains__(self, name: str) -> bool:
        return name.lower().encode("latin-1") in self._first

    def __iter__(self) -> Iterator[Pair]:
        return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class Request(Struct, eq=False):
    """One request, wholly received, its framing checked and its body inflated."""

    method: str
    """Upper case, as sent: `POST`."""
    path: str
    """Percent-decoded once, without the query; `*` for `OPTIONS *`."""
    query: str
    """What followed the first `?`, not decoded; empty when there was none."""
    headers: Headers
    body: bytes
    peer: str
    """The address of the other end of the connection, without its port."""
    received_ns: int
    """When the head was complete, Unix nanoseconds."""
    trace_id: str = ""
    """Set by the handler once it has one: the server puts it into the problem that it renders for a raised error."""
    raw_path: str = ""
    """The path as it was sent, for templates: an escaped slash separates nothing."""


class Stream(Protocol):
    """A body that comes in pieces. It is closed in every case, even when nothing was taken from it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces; an exception cuts the body off, which the client can tell from its end."""
        ...

    async def aclose(self) -> None:
        """Let go of whatever the pieces come from."""
        ...


class Response(Struct, eq=False):
    """What a handler answers; the server adds length, date and connection fields."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[Pair, ...] = ()
    stream: Stream | None = None
    """In place of `body`, for answers that have no length when they begin."""


Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request in a task of its own, which is cancelled when the client goes away."""

Reply = Callable[[Response], None]
"""Answers a request, once."""
Abandon = Callable[[], object]
"""Says that an answer is not wanted any more; without effect once it was given."""


class DirectHandler(ABC):
    """A handler that needs no task: it starts, and replies when the answer is there, maybe before `start` returns.

    A task, its coroutines and futures cost as much as reading a request. It can be called like any other handler, too.
    """

    __slots__ = ()

    @abstractmethod
    def start(self, request: Request, reply: Reply) -> Abandon:
        """Begin to answer, on the loop's thread.

        Raises:
            ClewError: The request is refused; no reply follows.
        """

    async def __call__(self, request: Request) -> Response:
        """Answer, see `Handler`."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        abandon = self.start(request, lambda response: None if answer.done() else answer.set_result(response))
        try:
            return await answer
        except asyncio.CancelledError:
            abandon()
            raise


_encode = msgspec.json.Encoder().encode


def json_response(status: int, obj: object, *, content_type: str = JSON, headers: tuple[Pair, ...] = ()) -> Response:
    """A response whose body is `obj` as JSON."""
    return Response(status, _encode(obj), content_type, headers)
