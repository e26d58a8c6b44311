"""A failed event as it lies on its topic, and what can be sent in its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from google.protobuf.message import DecodeError
from msgspec.structs import replace

from clew.admin.v1.failed_event_service_pb2 import Redrive
from clew.event.v1.event_pb2 import WARNING_MESSAGE_ID_MINTED, WARNING_REDRIVEN, Event
from clew.event.v1.failed_event_pb2 import FailedEvent
from gateway.decode import decode_typed
from gateway.decode.event import Surroundings, decode_event
from gateway.decode.request import decode_all, reject_text
from gateway.decode.types import DecodedEvent, DecodedRequest
from mesh.bus.framing import FramingError, split
from mesh.bus.tail import StoredRecord
from mesh.payload import message_in

_KEY_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Failed:
    """One record of the failed topic: its place and what it says."""

    partition: int
    offset: int
    event: FailedEvent

    @property
    def received_ns(self) -> int:
        """When the gateway received it first, Unix nanoseconds."""
        return self.event.received_time.ToNanoseconds()

    @property
    def key(self) -> bytes:
        """What tells it from every other failed event, also from one at the same place of a newer topic."""
        return failed_key(self.partition, self.offset, self.received_ns, self.event.index)

    @property
    def message_id(self) -> str:
        """The id that it is sent under when it has none: the same each time, so that a copy is known as one."""
        return f"redrive-{self.key.hex()}"


def failed_key(partition: int, offset: int, received_ns: int, index: int) -> bytes:
    """Sixteen bytes for a failed event: its place, and when and where in its request it came."""
    return blake2b(b"%d:%d:%d:%d" % (partition, offset, received_ns, index), digest_size=_KEY_BYTES).digest()


def read_failed(record: StoredRecord) -> Failed | None:
    """The failed event of a record; None when somebody else wrote what is none."""
    try:
        return Failed(record.partition, record.offset, FailedEvent.FromString(split(record.value).payload))
    except (FramingError, DecodeError):
        return None


def decode_again(failed: Failed, redrive: Redrive) -> DecodedRequest:
    """Decode the event, or what replaces it, as the edge does, into a request of one: good, or refused with a reason.

    It happened when it happened: the client's times are weighed against the time of its first receipt.
    """
    decoded = _decode(failed, redrive)
    for event in decoded.events:
        if WARNING_MESSAGE_ID_MINTED in event.warnings:
            _name(event, failed)
        if event.context.identity_token:
            # What stands there is a row of asterisks, which would prove nothing.
            event.context = replace(event.context, identity_token="")
        event.warnings.append(WARNING_REDRIVEN)
    return decoded


def _name(event: DecodedEvent, failed: Failed) -> None:
    """Give an event without a message id the one that it failed with, or else one that is the same each time."""
    if failed.event.message_id:
        event.message_id = failed.event.message_id
        event.warnings.remove(WARNING_MESSAGE_ID_MINTED)
    else:
        event.message_id = failed.message_id


def text_of(failed: Failed, redrive: Redrive) -> tuple[bytes | Event, bytes | Event]:
    """What failed and what is sent, each as text or as a message."""
    original = message_in(failed.event.payload, Event)
    before = failed.event.payload if original is None else original
    match redrive.WhichOneof("replacement"):
        case "event_json":
            return before, redrive.event_json.encode()
        case "event":
            return before, redrive.event
        case _:
            return before, before


def _decode(failed: Failed, redrive: Redrive) -> DecodedRequest:
    _, sent = text_of(failed, redrive)
    if isinstance(sent, Event):
        return decode_typed((sent,), failed.received_ns)
    texts: Sequence[bytes] = (sent,)
    around = Surroundings(received_ns=failed.received_ns)
    return decode_all(texts, lambda text, index: decode_event(text, index, around), reject_text)
