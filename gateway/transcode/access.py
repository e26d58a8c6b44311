"""Who may call an rpc over HTTP: `clew.options.v1.access`, checked before the body is looked at. It fails closed."""

from clew.options.v1.access_pb2 import Access, AccessKind
from gateway.admission import Admission
from gateway.http.message import Headers
from gateway.routes.collect import credentials_of
from mesh.errors import Unimplemented


class Guard:
    """Checks what a caller shows against what an rpc asks for."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def check(self, access: Access, headers: Headers) -> None:
        """Return when the caller may go on.

        Raises:
            MissingCredentials: It shows nothing.
            InvalidToken: Its token does not hold.
            InsufficientScope: Its token holds and does not open this.
            UnknownWriteKey: Its write key belongs to no source.
            UpstreamUnavailable: The keys of its token's issuer cannot be had.
        """
        match access.kind:
            case AccessKind.ACCESS_KIND_PUBLIC:
                return
            case AccessKind.ACCESS_KIND_SCOPE:
                await self._admission.administrator(credentials_of(headers), access.scope, *access.other_scopes)
            case AccessKind.ACCESS_KIND_WRITE_KEY:
                self._admission.source(credentials_of(headers))
            case _:
                raise Unimplemented("the rpc does not say who may call it")
