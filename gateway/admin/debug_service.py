"""The servicer of the live view."""

import asyncio
from collections.abc import AsyncGenerator

from clew.admin.v1.edge_debug_service_pb2 import TailEventsRequest, TailEventsResponse
from clew.admin.v1.edge_debug_service_pb2_grpc import EdgeDebugServiceServicer
from gateway.admin.access import WATCHERS, authorize
from gateway.admin.view import edge_event
from gateway.admission import Admission
from gateway.caller import Caller
from gateway.tap import Seen, Tap, Wanted, Watcher
from mesh.clock import Clock
from mesh.errors import InvalidToken
from mesh.jwt import Claims

_NANOS = 1_000_000_000


class EdgeDebugServicer(EdgeDebugServiceServicer):
    """`clew.admin.v1.EdgeDebugService`."""

    def __init__(self, tap: Tap, admission: Admission, clock: Clock) -> None:
        self._tap = tap
        self._admission = admission
        self._clock = clock

    async def TailEvents(  # noqa: N802 - the contract's name
        self, request: TailEventsRequest, context: Caller
    ) -> AsyncGenerator[TailEventsResponse, None]:
        """Stream events as they leave the pipeline."""
        claims = await authorize(self._admission, context.invocation_metadata(), WATCHERS)
        wanted = Wanted(
            request.workspace, request.source, request.message_id, request.user_id, frozenset(request.verdicts)
        )
        with self._tap.watching(wanted) as watcher:
            await context.send_initial_metadata(())
            while True:
                seen, lost = await self._read(watcher, claims)
                # Made here and not where the event was seen: a watcher pays for what it is shown.
                yield TailEventsResponse(event=None if seen is None else edge_event(seen), lost_events=lost)

    async def _read(self, watcher: Watcher, claims: Claims) -> tuple[Seen | None, int]:
        """Wait for the next event, no longer than the token holds."""
        try:
            async with asyncio.timeout(claims.expire_at - self._clock.now_ns() / _NANOS):
                return await watcher.read()
        except TimeoutError:
            raise InvalidToken("token has expired") from None
