"""From a connection's bytes, wherever they are cut, to whole requests: a head, then its body."""

from gateway.http.body import ChunkedBody, SizedBody
from gateway.http.head import CHUNKED, Head, HeadReader
from gateway.http.limits import HttpLimits
from gateway.http.repeat import RepeatedHead

Whole = tuple[Head, bytes, bytes]
"""A request's head and body, and what followed them."""


class Incoming:
    """Reads one request at a time; `next` turns to the following one."""

    __slots__ = ("_body", "_limits", "_reader", "_repeated", "head")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._reader: HeadReader | None = None
        self._repeated: RepeatedHead | None = None
        self._body: SizedBody | ChunkedBody | None = None
        self.head: Head | None = None
        """The head of the request that is being read or was read last."""

    @property
    def started(self) -> bool:
        """Whether anything of the request is there."""
        return self.head is not None or (self._reader is not None and self._reader.started)

    @property
    def received(self) -> int:
        """Bytes of a body that is not whole yet."""
        return self._body.received if self._body else 0

    def next(self) -> None:
        """Expect another request."""
        self._reader = self.head = self._body = None

    def feed(self, data: bytes) -> Whole | None:
        """Take the next bytes; the request once its last byte is there.

        Raises:
            ClewError: They break HTTP or a limit.
        """
        if self._body is None:
            rest = self._feed_head(data)
            head = self.head
            if head is None:
                return None
            if 0 <= head.length <= min(len(rest), self._limits.body_bytes):
                return head, rest[: head.length], rest[head.length :]
            self._body = ChunkedBody(self._limits) if head.length == CHUNKED else SizedBody(head.length, self._limits)
            data = rest
        return self._feed_body(self._body, data) if data else None

    def _feed_head(self, data: bytes) -> bytes:
        if self._reader is None:
            if self._repeated is not None and (found := self._repeated.read(data)) is not None:
                self.head, rest = found
                return rest
            # A reader for each request: nothing of one can colour the next.
            self._reader = HeadReader(self._limits)
        reader = self._reader
        head = reader.feed(data)
        if head is None:
            return b""
        self.head = head
        self._repeated = RepeatedHead.of(reader.raw, head)
        return reader.rest

    def _feed_body(self, body: SizedBody | ChunkedBody, data: bytes) -> Whole | None:
        rest = body.feed(data)
        if not body.done or self.head is None:
            return None
        self._body = None
        return self.head, body.take(), rest
