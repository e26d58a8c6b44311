"""`clew tail`: decoded records as they come."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from clew.event.v1.enriched_event_pb2 import EnrichedEvent
from clew.event.v1.event_pb2 import EventType
from clew.identity.v1.profile_changed_pb2 import ProfileChanged
from cli.endpoints import Endpoints, NotRunning, require_kafka
from cli.records import Decoded, as_json, consume, line, name_of


@dataclass(frozen=True, slots=True)
class TailFilter:
    """What a record must have to be shown; an empty field asks for nothing."""

    type: str = ""
    user: str = ""
    anonymous: str = ""
    profile: str = ""
    source: str = ""
    message_id: str = ""
    failed_only: bool = False

    def accepts(self, record: Decoded) -> bool:
        """Whether the record is shown."""
        message = record.message
        if isinstance(message, ProfileChanged):
            return self._accepts_merge(message)
        if self.source and message.source != self.source:
            return False
        if self.message_id and message.message_id != self.message_id:
            return False
        if not isinstance(message, EnrichedEvent):
            return not (self.type or self.user or self.anonymous or self.profile)
        wanted = (
            (self.type, name_of(EventType, message.type, "EVENT_TYPE_")),
            (self.user, message.user_id),
            (self.anonymous, message.anonymous_id),
            (self.profile, message.profile_id),
        )
        return not self.failed_only and all(not want or want == have for want, have in wanted)

    def _accepts_merge(self, merge: ProfileChanged) -> bool:
        """Whether a merge is shown: to who looks at everything, or at one of its profiles."""
        if self.type or self.user or self.anonymous or self.source or self.message_id or self.failed_only:
            return False
        return not self.profile or self.profile in {merge.profile_id, *merge.merged_profile_ids}


def tail(data_dir: Path, wanted: TailFilter, *, limit: int, from_beginning: bool, json_lines: bool) -> int:
    """Show records until Ctrl-C, or until `limit` were shown (0: no limit). Exit status 1 when nothing runs."""
    stopped = _on_interrupt()
    show = as_json if json_lines else line
    try:
        endpoints = Endpoints.read(data_dir)
        require_kafka(endpoints.kafka)
        _announce(from_beginning=from_beginning)
        shown = 0
        for record in consume(endpoints.kafka, from_beginning=from_beginning, stop=stopped):
            if record is None or not wanted.accepts(record):
                continue
            sys.stdout.write(show(record) + "\n")
            sys.stdout.flush()
            shown += 1
            if shown == limit:
                break
    except NotRunning as error:
        sys.stderr.write(f"clew tail: {error}\n")
        return 1
    except KafkaException as error:
        sys.stderr.write(f"clew tail: Kafka does not answer any more: {error.args[0].str()}\n")
        return 1
    return 0


def _announce(*, from_beginning: bool) -> None:
    """Say to who sits before it what is waited for: nothing may come for long."""
    if sys.stderr.isatty():
        what = "events, failed events and merges"
        begin = f"showing the {what} that are there, then new ones"
        wait = f"waiting for new {what}; --from-beginning shows what is there"
        sys.stderr.write(f"{begin if from_beginning else wait}; Ctrl-C ends\n")
        sys.stderr.flush()


def _on_interrupt() -> Callable[[], bool]:
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return lambda: stopped
