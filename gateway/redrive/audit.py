"""The audit of redrives on `clew.audit.v1`: entries are written to it, and it says what was redriven before.

The topic is all the memory there is. What a gateway has read of it stays in memory, some 150 bytes an event, and each
look reads on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Final

import structlog
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry import trace

from clew.audit.v1 import audit_entry_pb2 as audit
from gateway.encode import FAILED_TOPIC, constant_headers, traceparent
from gateway.redrive.failed import failed_key
from mesh.bus.framing import FramingError, frame_prefix, split
from mesh.bus.port import Bus, Partition, Record
from mesh.bus.tail import StoredRecord, Tail
from mesh.clock import Clock
from mesh.errors import BusUnavailable
from mesh.ids import new_id

AUDIT_TOPIC: Final = "clew.audit.v1"
SETTLED: Final = frozenset(
    {
        audit.REDRIVE_OUTCOME_ACCEPTED,
        audit.REDRIVE_OUTCOME_DUPLICATE,
        audit.REDRIVE_OUTCOME_FILTERED,
        audit.REDRIVE_OUTCOME_DEFERRED,
    }
)
"""What ends a failed event's story: it is not redriven a second time."""
# Of an entry, all events together; the rest takes at most 200 KB of the megabyte that a producer lets a record have.
_MOST_PATH_BYTES: Final = 512 * 1024
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Previous:
    """The entry that says that an event was redriven."""

    entry_id: str
    actor: str
    create_ns: int


class AuditLog:
    """Writes and reads the audit topic.

    Args:
        bus: Carries entries.
        tail: Reads them back.
        clock: Dates them.
        schema_id: The registry's id of `AuditEntry`.
        origin: Names this gateway on its records.
    """

    def __init__(self, bus: Bus, tail: Tail, clock: Clock, *, schema_id: int, origin: str = "") -> None:
        self._bus = bus
        self._tail = tail
        self._clock = clock
        self._prefix = frame_prefix(schema_id)
        self._headers = constant_headers(audit.AuditEntry.DESCRIPTOR.full_name, origin)
        self._redriven: dict[bytes, Previous] = {}
        self._reached: dict[Partition, int] = {}
        self._cluster = ""

    def previous(self, key: bytes) -> Previous | None:
        """The redrive that a failed event was part of, as far as the topic was read; by its key."""
        return self._redriven.get(key)

    async def catch_up(self) -> None:
        """Read on to the end that the topic has now.

        Raises:
            BusUnavailable: It cannot be read.
        """
        ends = await self._tail.ends((AUDIT_TOPIC,))
        gone = any(ends.offsets.get(partition, 0) < offset for partition, offset in self._reached.items())
        if gone or ends.cluster != self._cluster:
            # Another topic than before: what it remembered is gone, and so are the events that it spoke of.
            self._redriven, self._reached, self._cluster = {}, {}, ends.cluster
        async for records in self._tail.read(self._reached, ends.offsets):
            for record in records:
                self._read(record)
                self._reached[record.topic, record.partition] = record.offset + 1

    async def write(self, actor: str, workspace: str, note: str, redriven: audit.EventsRedriven) -> str:
        """Add an entry; it is acknowledged when its id is returned.

        Raises:
            BusUnavailable: It may not be there.
        """
        entry = audit.AuditEntry(id=new_id(), actor=actor, workspace=workspace, note=note, events_redriven=redriven)
        entry.create_time.FromNanoseconds(self._clock.now_ns())
        headers = [
            *self._headers,
            ("traceparent", traceparent(trace.get_current_span().get_span_context())),
            ("ce_id", entry.id.encode()),
            ("ce_source", f"/workspaces/{workspace}".encode()),
            ("ce_type", b"dev.clew.audit.events_redriven"),
        ]
        record = Record(AUDIT_TOPIC, actor.encode(), self._prefix + entry.SerializeToString(), headers)
        failures = await self._bus.produce((record,))
        if failures:
            raise BusUnavailable(f"the audit on {AUDIT_TOPIC} could not be written: {failures[0].detail}")
        return entry.id

    def _read(self, record: StoredRecord) -> None:
        try:
            entry = audit.AuditEntry.FromString(split(record.value).payload)
        except (FramingError, DecodeError):
            _log.warning("no audit entry", topic=record.topic, partition=record.partition, offset=record.offset)
            return
        redriven = entry.events_redriven
        if redriven.phase != audit.REDRIVE_PHASE_ENDED or redriven.topic != FAILED_TOPIC:
            return
        previous = Previous(entry.id, entry.actor, entry.create_time.ToNanoseconds())
        for event in redriven.events:
            if event.outcome in SETTLED:
                key = failed_key(event.partition, event.offset, event.received_time.ToNanoseconds(), event.index)
                self._redriven.setdefault(key, previous)


def _fitted(events: Sequence[audit.RedrivenEvent]) -> Sequence[audit.RedrivenEvent]:
    """The events with as many of their paths as a record has room for: who cannot be audited could never be sent."""
    share = _MOST_PATH_BYTES // max(1, len(events))
    for event in events:
        sizes = accumulate(len(path.encode()) for path in event.changed_paths)
        del event.changed_paths[sum(1 for _ in takewhile(share.__ge__, sizes)) :]
    return events


def begun(events: Sequence[audit.RedrivenEvent]) -> audit.EventsRedriven:
    """What is said before anything is sent."""
    return audit.EventsRedriven(phase=audit.REDRIVE_PHASE_BEGUN, topic=FAILED_TOPIC, events=_fitted(events))


def ended(entry_id: str, events: Sequence[audit.RedrivenEvent]) -> audit.EventsRedriven:
    """What is said afterwards."""
    return audit.EventsRedriven(
        phase=audit.REDRIVE_PHASE_ENDED, begun_entry_id=entry_id, topic=FAILED_TOPIC, events=_fitted(events)
    )


def timestamp(unix_ns: int) -> Timestamp:
    """A time in the contract's form."""
    made = Timestamp()
    made.FromNanoseconds(unix_ns)
    return made
