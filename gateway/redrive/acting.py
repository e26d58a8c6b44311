"""Who sends a failed event again: an administrator, for the source that it failed at."""

from gateway.admission import Admission
from gateway.credentials import Credentials
from gateway.decode.types import DecodedRequest
from gateway.sources import Source, Sources
from mesh.jwt import IssuerVerifiers

_NOBODY: frozenset[int] = frozenset()


class ActingFor(Admission):
    """Admits events of one source without its write key, after the caller's own right to do so was checked.

    It proves no user id: the tokens that came with the events were never kept.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(Sources({}), IssuerVerifiers([]))
        self._source = source

    def source(self, credentials: Credentials, origin: str = "") -> Source:  # noqa: ARG002 - nobody shows any
        """The source that is acted for."""
        return self._source

    async def proven(self, subject: str, decoded: DecodedRequest) -> frozenset[int]:  # noqa: ARG002 - nothing is
        """No event."""
        return _NOBODY
