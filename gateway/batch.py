"""What each stage of the pipeline hands to the next: one object a batch.

A stage takes its predecessor's type, so what was not decided cannot be published.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import Struct, field
from opentelemetry.trace import SpanContext

from clew.collector.v1.collector_service_pb2 import FilterReason, Verdict
from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.event.v1.failed_event_pb2 import FailureReason
from clew.identity.v1.identity_service_pb2 import ResolvedIdentity
from gateway.claims.claim import Claim
from gateway.decode.types import DecodedEvent, DecodedRequest
from gateway.notes import Notes
from gateway.sources import Source
from mesh.errors import ClewError


class Outcome(NamedTuple):
    """What became of one event."""

    message_id: str
    verdict: Verdict.ValueType
    failure_reason: FailureReason.ValueType = FailureReason.FAILURE_REASON_UNSPECIFIED
    filter_reason: FilterReason.ValueType = FilterReason.FILTER_REASON_UNSPECIFIED
    detail: str = ""


class Submission(Struct, eq=False):
    """One request that was admitted: its source is known and its user ids are proven or not.

    `proven` holds the indices of the events whose user id a token proves; `deadline` is on the monotonic clock, in
    seconds.
    The pipeline fills `outcomes`, one per event of the request, or sets `error`, which stands for the whole request.
    """

    source: Source
    decoded: DecodedRequest
    trace: SpanContext
    received_ns: int
    client_ip: str
    deadline: float
    size: int
    proven: frozenset[int] = frozenset()
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    error: ClewError | None = None
    produced: bool = False
    """Whether records of it were handed to Kafka."""
    on_produced: Callable[[], None] | None = None
    """Called when they are, by who does not wait for the request any more and must know."""
    spooled: bool = False
    """Whether the spool has it: then its events are in flight there, and not in the claims."""
    again: bool = False
    """Whether it comes out of the spool after records of it were handed to Kafka: what is on the topic is its own."""
    notes: dict[int, Notes] | None = None
    """What the stages found out about each event, by its index; None: nobody watches."""

    def mark_produced(self) -> None:
        """Records of it are about to be handed to Kafka."""
        self.produced = True
        if self.on_produced is not None:
            self.on_produced()

    @property
    def count(self) -> int:
        """How many events it holds, good and bad."""
        return self.decoded.count

    @property
    def flow(self) -> str:
        """Whose turn it takes in the queue of its workspace: its source's."""
        return self.source.name


class Owned(NamedTuple):
    """An event and the request that it came with."""

    event: DecodedEvent
    submission: Submission


@dataclass(slots=True)
class Admitted:
    """The requests of one workspace that travel together, and their good events in order of arrival."""

    workspace: str
    submissions: list[Submission]
    events: list[Owned]


class Follower(NamedTuple):
    """An event of which another copy was claimed before; without a leader, by another gateway."""

    owned: Owned
    key: bytes
    leader: Claim | None


@dataclass(slots=True)
class Claimed:
    """The requests of an admitted batch; `events` are those that are this batch's to publish, in order.

    `followers` wait for what becomes of another copy. `unpublished` gathers what ends on no topic, with what the ledger
    counts it as.
    """

    workspace: str
    submissions: list[Submission]
    events: list[Owned]
    claim: Claim
    followers: list[Follower]
    unpublished: list[tuple[Submission, int]]


@dataclass(slots=True)
class Resolved:
    """Every event is tied to a profile: identity i belongs to event i.

    `merges` names, by profile, all that were ever merged into it, where there are any.
    """

    claimed: Claimed
    identities: list[ResolvedIdentity]
    merges: Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Allowed:
    """One event that consent allows for a purpose of its source."""

    owned: Owned
    identity: ResolvedIdentity
    decision: ConsentDecision


@dataclass(slots=True)
class Decided:
    """The events that may be kept, in order; the others have their outcome already."""

    claimed: Claimed
    allowed: list[Allowed]
    merges: Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Enriched:
    """Every event that may be kept has its serialized enrichment: enrichment i belongs to event i."""

    claimed: Claimed
    allowed: list[Allowed]
    enrichments: list[bytes]
    merges: Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Aliased:
    """The aliases of all profiles with merged ones are on Kafka; `epochs` counts those merged ones by profile."""

    claimed: Claimed
    allowed: list[Allowed]
    enrichments: list[bytes]
    epochs: Mapping[str, int]
