"""A redrive, top to bottom: read what failed, decode it again, write the audit, send, write what became of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from opentelemetry import trace

from clew.admin.v1 import failed_event_service_pb2 as messages
from clew.audit.v1 import audit_entry_pb2 as audit
from clew.collector.v1.collector_service_pb2 import Verdict
from gateway.batch import Outcome
from gateway.collect import Arrival, Collector
from gateway.credentials import Credentials
from gateway.decode.types import DecodedRequest
from gateway.encode import FAILED_TOPIC
from gateway.redrive.audit import AuditLog, Previous, begun, ended, timestamp
from gateway.redrive.changes import Changes, changes
from gateway.redrive.failed import Failed, decode_again, read_failed, text_of
from gateway.sources import Source
from mesh.bus.port import Partition
from mesh.bus.tail import Tail
from mesh.clock import Clock
from mesh.errors import ClewError, Internal

# Few enough to fit into any source's share of the pipeline, enough to travel as one batch.
_AT_ONCE: Final = 50
_NOBODY: Final = Credentials()
_log = structlog.get_logger()
_OUTCOMES: Final = {
    Verdict.VERDICT_ACCEPTED: audit.REDRIVE_OUTCOME_ACCEPTED,
    Verdict.VERDICT_DUPLICATE: audit.REDRIVE_OUTCOME_DUPLICATE,
    Verdict.VERDICT_FILTERED: audit.REDRIVE_OUTCOME_FILTERED,
    Verdict.VERDICT_DEFERRED: audit.REDRIVE_OUTCOME_DEFERRED,
    Verdict.VERDICT_REJECTED: audit.REDRIVE_OUTCOME_REJECTED,
}

Status = messages.RedriveStatus
CollectorFor = Callable[[Source], Collector]
"""The door for a source's events, for whom its write key need not be shown."""
FindSource = Callable[[str, str], Source | None]
"""The source of a workspace and name; None when it is deleted or disabled."""


@dataclass(slots=True)
class Item:
    """One event of a redrive, and what is known of it so far."""

    redrive: messages.Redrive
    status: Status.ValueType = Status.REDRIVE_STATUS_UNSPECIFIED
    detail: str = ""
    failed: Failed | None = None
    source: Source | None = None
    decoded: DecodedRequest | None = None
    changes: Changes = field(default_factory=lambda: Changes((), 0))
    previous: Previous | None = None
    outcome: Outcome | None = None

    @property
    def message_id(self) -> str:
        """The id that it is sent under; empty while none is known."""
        if self.decoded is None:
            return ""
        good, refused = self.decoded.events, self.decoded.rejected
        return good[0].message_id if good else refused[0].message_id


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for, and by whom."""

    actor: str
    workspace: str
    redrives: Sequence[messages.Redrive]
    validate_only: bool = False
    again: bool = False
    note: str = ""


class Redriver:
    """Sends failed events again, one order at a time.

    Args:
        tail: Reads the failed topic.
        log: The audit.
        find_source: Knows the sources.
        collector_for: Where events enter.
        clock: Says when they do.
    """

    def __init__(
        self, tail: Tail, log: AuditLog, find_source: FindSource, collector_for: CollectorFor, clock: Clock
    ) -> None:
        self._tail = tail
        self._log = log
        self._find_source = find_source
        self._collector_for = collector_for
        self._clock = clock
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[tuple[list[Item], str]]] = set()

    async def redrive(self, order: Order) -> tuple[list[Item], str]:
        """What became of each event, in order, and the audit entry that says so; empty when nothing was sent.

        Raises:
            BusUnavailable: The topics cannot be read, or the audit not be written; whether something was sent is open.
        """
        # A caller that goes away must not keep what was sent from being audited.
        task = asyncio.create_task(self._redrive(order))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _redrive(self, order: Order) -> tuple[list[Item], str]:
        async with self._turn:
            items = await self._look(order)
            ready = [item for item in items if item.status == Status.REDRIVE_STATUS_READY]
            if order.validate_only or not ready:
                return items, ""
            entry_id = await self._log.write(
                order.actor, order.workspace, order.note, begun([_audited(item) for item in ready])
            )
            await self._send_all(ready)
            redriven = ended(entry_id, [_audited(item) for item in ready])
            return items, await self._log.write(order.actor, order.workspace, order.note, redriven)

    async def _look(self, order: Order) -> list[Item]:
        """Find out about each event whether it can be sent."""
        await self._log.catch_up()
        items = [Item(redrive) for redrive in order.redrives]
        seen: set[bytes] = set()
        sources: dict[str, Source | None] = {}
        # A few at a time: what failed may be large, and is kept no longer than it takes to look at it.
        for first in range(0, len(items), _AT_ONCE):
            await self._look_at(items[first : first + _AT_ONCE], order, seen, sources)
        return items

    async def _look_at(
        self, items: Sequence[Item], order: Order, seen: set[bytes], sources: dict[str, Source | None]
    ) -> None:
        places: dict[Partition, set[int]] = {}
        for item in items:
            places.setdefault((FAILED_TOPIC, item.redrive.partition), set()).add(item.redrive.offset)
        stored = {(record.partition, record.offset): record for record in await self._tail.pick(places)}
        for item in items:
            record = stored.get((item.redrive.partition, item.redrive.offset))
            item.failed = read_failed(record) if record else None
            if item.failed is None or item.failed.event.workspace != order.workspace:
                item.failed = None
                item.status = Status.REDRIVE_STATUS_NOT_FOUND
                item.detail = (
                    "no failed event of the workspace is there: the place is wrong, or it was removed by retention"
                )
                continue
            name = item.failed.event.source
            if name not in sources:
                sources[name] = self._find_source(order.workspace, name)
            item.source = sources[name]
            repeated = item.failed.key in seen
            seen.add(item.failed.key)
            self._check(item, item.failed, again=order.again, repeated=repeated)
            item.failed.event.ClearField("payload")

    def _check(self, item: Item, failed: Failed, *, again: bool, repeated: bool) -> None:
        item.changes = changes(*text_of(failed, item.redrive))
        item.decoded = decode_again(failed, item.redrive)
        item.previous = self._log.previous(failed.key)
        if repeated or (item.previous and not again):
            item.status = Status.REDRIVE_STATUS_REDRIVEN_BEFORE
            item.detail = "the request names it twice" if repeated else "it was redriven before"
        elif item.source is None:
            item.status = Status.REDRIVE_STATUS_NO_SOURCE
            item.detail = f"the source {failed.event.source} is deleted or disabled"
        elif item.decoded.rejected:
            item.status = Status.REDRIVE_STATUS_INVALID
            item.detail = item.decoded.rejected[0].detail
            item.decoded.rejected[0].payload = b""
        else:
            item.status = Status.REDRIVE_STATUS_READY

    async def _send_all(self, items: Sequence[Item]) -> None:
        """Send in order; after a source's first that is not answered none of it, so that none overtakes it."""
        doors: dict[str, _Door] = {}
        for item in items:
            if item.source is not None and item.source.name not in doors:
                doors[item.source.name] = _Door(self._collector_for(item.source))
        for first in range(0, len(items), _AT_ONCE):
            some = items[first : first + _AT_ONCE]
            await asyncio.gather(*(self._send(item, doors[item.source.name]) for item in some if item.source))

    async def _send(self, item: Item, door: "_Door") -> None:
        failed, decoded = item.failed, item.decoded
        item.status = Status.REDRIVE_STATUS_UNANSWERED
        if door.closed or failed is None or decoded is None:
            item.detail = door.closed
            return
        try:
            (item.outcome,) = await door.collector.collect(
                Arrival(
                    decode=lambda: decoded,
                    credentials=_NOBODY,
                    span=trace.get_current_span(),
                    received_ns=self._clock.now_ns(),
                    # Whose device it was is not kept, and the administrator's is not the visitor's.
                    client_ip="",
                    size=max(item.redrive.ByteSize(), failed.event.payload_size_bytes),
                )
            )
        except ClewError as error:
            item.detail = door.closed = str(error)
        except Exception:  # noqa: BLE001 - whatever it is: the others go on, and the audit must be told
            _log.exception("a redriven event could not be carried")
            item.detail = door.closed = str(Internal("a fault of clew's; the gateway's log has it"))
        else:
            item.status, item.detail = Status.REDRIVE_STATUS_SENT, item.outcome.detail


class _Door:
    """Where a source's events enter, and why none does any more; empty as long as they do."""

    __slots__ = ("closed", "collector")

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.closed = ""


def _audited(item: Item) -> audit.RedrivenEvent:
    failed = item.failed
    if failed is None:
        raise ValueError("nothing was read of this event")
    event = audit.RedrivenEvent(
        partition=failed.partition,
        offset=failed.offset,
        received_time=timestamp(failed.received_ns),
        index=failed.event.index,
        source=failed.event.source,
        message_id=item.message_id,
        changed_paths=item.changes.paths,
        changed_path_count=item.changes.total,
    )
    if item.outcome is not None:
        event.outcome = _OUTCOMES[item.outcome.verdict]
        event.failure_reason = item.outcome.failure_reason
    elif item.status == Status.REDRIVE_STATUS_UNANSWERED:
        event.outcome = audit.REDRIVE_OUTCOME_UNANSWERED
    return event
