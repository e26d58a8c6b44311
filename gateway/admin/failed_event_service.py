"""The servicer of failed events: who asks is checked, messages in, the redriver asked, messages out."""

from clew.admin.v1 import failed_event_service_pb2 as messages
from clew.admin.v1.failed_event_service_pb2_grpc import FailedEventServiceServicer
from gateway.admin.access import REDRIVERS, authorize
from gateway.admission import Admission
from gateway.caller import Caller
from gateway.redrive.audit import timestamp
from gateway.redrive.redriver import Item, Order, Redriver


class FailedEventServicer(FailedEventServiceServicer):
    """`clew.admin.v1.FailedEventService`. Requests were validated against the contract before they come here."""

    def __init__(self, redriver: Redriver, admission: Admission) -> None:
        self._redriver = redriver
        self._admission = admission

    async def RedriveEvents(  # noqa: N802 - the contract's name
        self, request: messages.RedriveEventsRequest, context: Caller
    ) -> messages.RedriveEventsResponse:
        """Send failed events again."""
        claims = await authorize(self._admission, context.invocation_metadata(), REDRIVERS)
        items, entry_id = await self._redriver.redrive(
            Order(
                actor=claims.subject,
                workspace=request.workspace,
                redrives=request.events,
                validate_only=request.validate_only,
                again=request.again,
                note=request.note,
            )
        )
        return messages.RedriveEventsResponse(results=[_result(item) for item in items], audit_entry_id=entry_id)


def _result(item: Item) -> messages.RedriveResult:
    result = messages.RedriveResult(
        status=item.status,
        message_id=item.message_id,
        detail=item.detail,
        changed_paths=item.changes.paths,
        changed_path_count=item.changes.total,
        source=item.failed.event.source if item.failed else "",
    )
    if item.outcome is not None:
        result.verdict = item.outcome.verdict
        result.failure_reason = item.outcome.failure_reason
        result.filter_reason = item.outcome.filter_reason
    elif item.status == messages.REDRIVE_STATUS_INVALID and item.decoded:
        result.failure_reason = item.decoded.rejected[0].reason
    if item.previous is not None:
        result.previous.audit_entry_id = item.previous.entry_id
        result.previous.actor = item.previous.actor
        result.previous.create_time.CopyFrom(timestamp(item.previous.create_ns))
    return result
