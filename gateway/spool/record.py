"""One request as the spool keeps it: what admission made of it, and no credential.

It is the decoded request and not its body, for three reasons: a message id that was minted must be the same at release
as in the answer, or nothing would tell copies apart; both doors, HTTP and gRPC, come to the same; and what a token
proved is a list of indices, so that no token has to be kept. MessagePack with the names of the fields: a later version
may add fields that have defaults. `tests/gateway/spool/test_record.py` keeps a record of today and reads it.
"""

import time
from typing import Final

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace
from opentelemetry.trace import SpanContext, TraceFlags

from gateway.batch import Submission
from gateway.decode.types import EMPTY_CONTEXT, DecodedContext, DecodedEvent, DecodedRequest, RejectedEvent
from gateway.sources import Source

_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8


class Head(Struct, kw_only=True):
    """What must be known of a record to count it."""

    serial: int
    """Tells this record from every other of its spool."""
    workspace: str
    source: str
    received_ns: int
    count: int


class Kept(Head, kw_only=True):
    """A request that waits.

    `contexts` holds each context once; `places` says which one each event has. `produced`: records of it were handed to
    Kafka before it was kept, so that what is found on the topic may be its own.
    """

    purposes: list[int]
    client_ip: str
    size: int
    trace_id: bytes
    span_id: bytes
    sampled: bool
    proven: list[int]
    produced: bool
    contexts: list[DecodedContext]
    places: list[int]
    events: list[DecodedEvent]
    rejected: list[RejectedEvent] = field(default_factory=list)


encode = msgspec.msgpack.Encoder().encode
read_head = msgspec.msgpack.Decoder(Head).decode
read_kept = msgspec.msgpack.Decoder(Kept).decode
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError)
"""What both raise for what is no record of this version."""


def keep(submission: Submission, serial: int) -> Kept:
    """The request as it is written down. Tokens and the write key are left out."""
    source, decoded, trace = submission.source, submission.decoded, submission.trace
    places: dict[int, int] = {}
    contexts: list[DecodedContext] = []
    for event in decoded.events:
        if id(event.context) not in places:
            places[id(event.context)] = len(contexts)
            contexts.append(_plain(event.context))
    return Kept(
        serial=serial,
        workspace=source.workspace,
        source=source.name,
        received_ns=submission.received_ns,
        count=decoded.count,
        purposes=sorted(source.purposes),
        client_ip=submission.client_ip,
        size=submission.size,
        trace_id=trace.trace_id.to_bytes(_TRACE_BYTES),
        span_id=trace.span_id.to_bytes(_SPAN_BYTES),
        sampled=trace.trace_flags.sampled,
        proven=sorted(submission.proven),
        produced=submission.produced,
        contexts=contexts,
        places=[places[id(event.context)] for event in decoded.events],
        events=[replace(event, context=EMPTY_CONTEXT) for event in decoded.events],
        rejected=decoded.rejected,
    )


def blank(head: Head | None) -> Kept:
    """What stands for a record that cannot be read, while its turn comes: no event."""
    return Kept(
        serial=head.serial if head else 0,
        workspace=head.workspace if head else "",
        source=head.source if head else "",
        received_ns=head.received_ns if head else 0,
        count=0,
        purposes=[],
        client_ip="",
        size=0,
        trace_id=b"",
        span_id=b"",
        sampled=False,
        proven=[],
        produced=False,
        contexts=[],
        places=[],
        events=[],
    )


def release(kept: Kept, seconds: float, *, again: bool) -> Submission:
    """The request for the pipeline, which may take so long over it.

    `again`: it was handed to Kafka before, so that what stands on the topic may be of this very request.
    """
    events = [
        replace(event, context=kept.contexts[place]) for event, place in zip(kept.events, kept.places, strict=True)
    ]
    return Submission(
        source=Source(kept.workspace, kept.source, frozenset(kept.purposes)),
        decoded=DecodedRequest(write_key="", events=events, rejected=kept.rejected, count=kept.count),
        trace=SpanContext(
            int.from_bytes(kept.trace_id),
            int.from_bytes(kept.span_id),
            is_remote=True,
            trace_flags=TraceFlags(kept.sampled),
        ),
        received_ns=kept.received_ns,
        client_ip=kept.client_ip,
        deadline=time.monotonic() + seconds,
        size=kept.size,
        proven=frozenset(kept.proven),
        again=again,
        spooled=True,
    )


def _plain(context: DecodedContext) -> DecodedContext:
    """The context without its token, in types that can be written."""
    preferences = context.category_preferences
    return replace(context, identity_token="", category_preferences=None if preferences is None else dict(preferences))
