"""What the gateway's own servicers ask of a call, so that they serve gRPC and HTTP alike."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from gateway.credentials import AUTHORIZATION
from gateway.http.message import Headers

Metadata = Iterable[tuple[str, Any]]

_NONE: Final[tuple[tuple[str, str], ...]] = ()


class Caller(Protocol):
    """The part of `grpc.aio.ServicerContext` that they use: who asks, and the word that a stream has begun."""

    def invocation_metadata(self) -> Any:
        """Pairs of key and value, or None."""
        ...

    def send_initial_metadata(self, initial_metadata: Any, /) -> Any:
        """Tell the caller that its stream has begun; awaitable."""
        ...


class HttpCaller:
    """An HTTP request in the place of a call: its `Authorization`, and nothing else that a client sent."""

    def __init__(self, headers: Headers) -> None:
        self._authorization = headers.get(AUTHORIZATION)

    def invocation_metadata(self) -> Metadata:
        """The credential, under the key that it has in gRPC."""
        return _NONE if self._authorization is None else ((AUTHORIZATION, self._authorization),)

    async def send_initial_metadata(self, initial_metadata: Any, /) -> None:
        """Do nothing: the head of a stream goes with its first message, or a second after its beginning."""
