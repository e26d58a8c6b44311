"""Where the live view looks into the data path. While nobody watches, the data path asks one attribute a request.

While somebody does, each event's way is noted beside it, and what a watcher asks for is put into its buffer. A watcher
can slow the edge in no way: it is shown a bounded number of events a second, a bounded number wait for it, and the rest
is counted as lost. What waits is the decoded event, never its request: a body of megabytes is not kept for one event.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from msgspec import Struct
from opentelemetry.trace import SpanContext

from clew.collector.v1.collector_service_pb2 import VERDICT_UNSPECIFIED, Verdict
from clew.errors.v1.errors_pb2 import ErrorReason
from gateway.batch import Decided, Enriched, Outcome, Owned, Resolved, Submission
from gateway.decode.types import DecodedEvent, RejectedEvent
from gateway.notes import Notes
from gateway.sources import Source
from mesh.errors import ClewError, Draining, Overloaded

MAX_WATCHERS: Final = 8
MAX_WAITING: Final = 256
"""Most events that wait for a watcher."""
EVENTS_PER_SECOND: Final = 200
"""Most events shown a second, to all watchers together: they share it evenly."""
_NOTHING = Notes()


class Seen(Struct, frozen=True, eq=False):
    """One event that left the pipeline, or a request that was refused before its events were known.

    `outcome` is what was decided about the event, if anything; it is its verdict when the request was `answered`. When
    not, `failure` is the reason and the detail of what it was refused with, both empty when its sender went away.
    """

    source: Source | None
    event: DecodedEvent | RejectedEvent | None
    outcome: Outcome | None
    answered: bool
    failure: tuple[str, str]
    notes: Notes
    trace: SpanContext
    received_ns: int

    @property
    def verdict(self) -> Verdict.ValueType:
        """What became of the event; unspecified when it got no verdict."""
        return self.outcome.verdict if self.answered and self.outcome is not None else VERDICT_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a watcher asks for; an empty field lets all through. Verdict 0 stands for what got none."""

    workspace: str = ""
    source: str = ""
    message_id: str = ""
    user_id: str = ""
    verdicts: Collection[int] = ()

    def accepts(self, seen: Seen) -> bool:
        """Whether it asks for this one."""
        source, event = seen.source, seen.event
        if self.workspace and (source is None or source.workspace != self.workspace):
            return False
        if self.source and (source is None or source.name != self.source):
            return False
        if self.message_id and (event is None or event.message_id != self.message_id):
            return False
        if self.user_id and (not isinstance(event, DecodedEvent) or event.user_id != self.user_id):
            return False
        return not self.verdicts or seen.verdict in self.verdicts


class Watcher:
    """One reader's buffer. All methods are for the event loop's thread."""

    def __init__(self, wanted: Wanted, tap: "Tap") -> None:
        self._wanted = wanted
        self._tap = tap
        self._waiting: deque[Seen] = deque()
        self._lost = 0
        self._second = 0
        self._shown = 0
        self._something = asyncio.Event()

    def offer(self, seen: Seen) -> None:
        """Take it if it is asked for and there is room; count it as lost otherwise."""
        if not self._wanted.accepts(seen):
            return
        if self._has_room():
            self._waiting.append(seen)
        else:
            self._lost += 1
        self._something.set()

    async def read(self) -> tuple[Seen | None, int]:
        """Wait for the next event, and how many were lost since the last call; None when some were lost and none waits.

        Raises:
            Draining: The gateway is about to stop.
        """
        while not self._waiting and not self._lost:
            if self._tap.closed:
                raise Draining
            self._something.clear()
            await self._something.wait()
        lost, self._lost = self._lost, 0
        return (self._waiting.popleft() if self._waiting else None), lost

    def wake(self) -> None:
        """Let the reader look again."""
        self._something.set()

    def _has_room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._shown = second, 0
        if len(self._waiting) >= MAX_WAITING or self._shown >= self._tap.share:
            return False
        self._shown += 1
        return True


class Tap:
    """The watchers of one gateway, and what the data path tells them."""

    def __init__(self) -> None:
        self.open = False
        """Whether anybody watches: the data path tells the tap nothing while nobody does."""
        self.closed = False
        self._watchers: set[Watcher] = set()

    @property
    def share(self) -> int:
        """How many events a second each watcher is shown at most."""
        return EVENTS_PER_SECOND // len(self._watchers)

    @contextmanager
    def watching(self, wanted: Wanted) -> Iterator[Watcher]:
        """Watch for as long as the block runs.

        Raises:
            Overloaded: As many watch as may.
            Draining: The gateway is about to stop.
        """
        if self.closed:
            raise Draining
        if len(self._watchers) >= MAX_WATCHERS:
            raise Overloaded("as many watch this gateway's events as may", retry_after_seconds=30)
        watcher = Watcher(wanted, self)
        self._watchers.add(watcher)
        self.open = True
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self.open = bool(self._watchers)

    def close(self) -> None:
        """End all watching, now and from now on; what waits is read first."""
        self.closed = True
        for watcher in self._watchers:
            watcher.wake()

    def begin(self, submission: Submission) -> None:
        """A request was admitted while somebody watches: it is followed to its end."""
        submission.notes = {}

    def resolved(self, batch: Resolved) -> None:
        """Identity has answered."""
        for owned, identity in zip(batch.claimed.events, batch.identities, strict=True):
            if (notes := _notes(owned)) is not None:
                notes.identity = identity

    def decided(self, batch: Decided) -> None:
        """Consent has answered."""
        for item in batch.allowed:
            if (notes := _notes(item.owned)) is not None:
                notes.decision = item.decision

    def enriched(self, batch: Enriched) -> None:
        """Enrichment has answered."""
        for item, enrichment in zip(batch.allowed, batch.enrichments, strict=True):
            if (notes := _notes(item.owned)) is not None:
                notes.enrichment = enrichment

    def end(self, submission: Submission) -> None:
        """A request has left the pipeline, with an outcome for each event or with none."""
        if submission.notes is None:
            return
        answered = submission.error is None and len(submission.outcomes) == submission.count
        failure = _failure(submission.error)
        events: list[DecodedEvent | RejectedEvent] = [*submission.decoded.events, *submission.decoded.rejected]
        for event in sorted(events, key=lambda event: event.index):
            seen = Seen(
                source=submission.source,
                event=_slim(event),
                outcome=submission.outcomes.get(event.index),
                answered=answered,
                failure=failure,
                notes=submission.notes.get(event.index, _NOTHING),
                trace=submission.trace,
                received_ns=submission.received_ns,
            )
            self._offer(seen)

    def refused(self, source: Source | None, error: ClewError, trace: SpanContext, received_ns: int) -> None:
        """A request was refused before its events were known; its source may be known or not."""
        seen = Seen(
            source=source,
            event=None,
            outcome=None,
            answered=False,
            failure=_failure(error),
            notes=_NOTHING,
            trace=trace,
            received_ns=received_ns,
        )
        self._offer(seen)

    def _offer(self, seen: Seen) -> None:
        for watcher in self._watchers:
            watcher.offer(seen)


def _notes(owned: Owned) -> Notes | None:
    """The notes of an event; None when its request is not followed."""
    kept = owned.submission.notes
    return None if kept is None else kept.setdefault(owned.event.index, Notes())


def _failure(error: ClewError | None) -> tuple[str, str]:
    # Words only: the error's traceback would keep its request in memory.
    return ("", "") if error is None else (ErrorReason.Name(error.reason), error.detail)


def _slim(event: DecodedEvent | RejectedEvent) -> DecodedEvent | RejectedEvent:
    """The event without what is not shown and may be large."""
    if isinstance(event, DecodedEvent):
        return event
    return RejectedEvent(
        index=event.index,
        message_id=event.message_id,
        reason=event.reason,
        detail=event.detail,
        payload=b"",
        size=event.size,
    )
