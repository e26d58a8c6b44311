"""`clew topic redrive`: failed events, mended where asked, sent through the gateway again."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from confluent_kafka import KafkaException

from clew.admin.v1 import failed_event_service_pb2 as messages
from cli.endpoints import NotRunning
from cli.gateway_rpc import Gateway, Refused, connected
from cli.topic.access import Access, on_interrupt
from cli.topic.candidates import Candidate, calls, candidates
from cli.topic.errors import TopicError
from cli.topic.fixes import Fix
from cli.topic.read import INTERRUPTED, complain, selected, tell
from cli.topic.reader import Stop, consumer
from cli.topic.redrive_view import print_look, print_results, print_sent
from cli.topic.schemas import Read
from cli.topic.selection import Selection

_READY: Final = messages.REDRIVE_STATUS_READY
_UNANSWERED: Final = messages.REDRIVE_STATUS_UNANSWERED
_SETTLED: Final = frozenset({messages.REDRIVE_STATUS_SENT, messages.REDRIVE_STATUS_REDRIVEN_BEFORE})
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 8.0
# Calls in a row by which nothing was sent, over about half a minute.
_MOST_CALM: Final = 7


@dataclass(frozen=True, slots=True)
class Redriving:
    """What is to be sent again, and how.

    `do`: send, and not only look. `again`: also what was redriven before. `one`: there must be exactly one. `gateway`
    and `token`: another gateway than the running mesh's.
    """

    selection: Selection
    fix: Fix | None = None
    do: bool = False
    again: bool = False
    one: bool = False
    note: str = ""
    gateway: str = ""
    token: str = ""

    def request(self, group: Sequence[Candidate], *, look: bool) -> messages.RedriveEventsRequest:
        """A call for a group of one workspace."""
        return messages.RedriveEventsRequest(
            workspace=group[0].event.workspace,
            events=[candidate.redrive for candidate in group],
            validate_only=look,
            again=self.again,
            note=self.note,
        )


def redrive(access: Access, redriving: Redriving, *, json_lines: bool) -> int:
    """Look, show, and send when told to; exit status 0 when every event that is meant is settled, or would be sent."""
    stop = on_interrupt()
    try:
        with connected(access.data_dir, redriving.gateway, redriving.token) as gateway:
            found = _find(access, redriving, stop)
            if not stop():
                _look(gateway, redriving, found)
                ready = [candidate for candidate in found if candidate.status == _READY]
                if not json_lines:
                    print_look(found, do=redriving.do)
                entries = _send(gateway, redriving, ready, stop) if redriving.do else []
                if json_lines:
                    print_results(found)
                elif redriving.do and ready:
                    print_sent(ready, entries)
    except (NotRunning, TopicError, KafkaException, Refused) as error:
        return complain("redrive", error)
    if stop():
        tell("interrupted; run the same again for the rest: what was sent is left alone")
        return INTERRUPTED
    settled = _SETTLED if redriving.do else {*_SETTLED, _READY}
    return 0 if all(candidate.status in settled for candidate in found) else 1


def _find(access: Access, redriving: Redriving, stop: Stop) -> list[Candidate]:
    with consumer(access.broker()) as client:
        reads = selected(client, access.schemas(), redriving.selection, stop)
        if redriving.one:
            reads = iter(_the_one(reads))
        found = list(candidates(reads, redriving.fix))
    if redriving.selection.limit and len(found) == redriving.selection.limit:
        tell(f"only the first {len(found)} events are looked at: --limit")
    return found


def _the_one(reads: Iterable[Read]) -> list[Read]:
    found = list(islice(reads, 2))
    if len(found) != 1:
        number = "more than one is meant" if found else "none is meant"
        raise TopicError(f"--edit takes one event, and {number}; name it by --offsets or --message-id")
    return found


def _look(gateway: Gateway, redriving: Redriving, found: Sequence[Candidate]) -> None:
    """Let the gateway decode each as its edge would; nothing is sent."""
    for group in calls(candidate for candidate in found if not candidate.problem):
        _answer(group, gateway.redrive(redriving.request(group, look=True)))


def _send(gateway: Gateway, redriving: Redriving, ready: Sequence[Candidate], stop: Stop) -> list[str]:
    """Send them in order, again after a pause where the gateway could not; the audit entries that tell of it."""
    entries: list[str] = []
    for group in calls(ready):
        left, calm, pause = group, 0, _FIRST_PAUSE_SECONDS
        while left and not stop():
            before = len(left)
            problem = _try(gateway, redriving, left, entries)
            left = [candidate for candidate in left if candidate.status in {_READY, _UNANSWERED}]
            if not left:
                break
            problem = problem or left[0].detail
            # Where a source's rate is what holds it up, it goes on, if slowly.
            calm = calm + 1 if len(left) == before else 0
            if calm == _MOST_CALM:
                tell(f"gave up: {problem}")
                return entries
            tell(f"{len(left)} wait: {problem}; again in {pause:.0f} s")
            _sleep(pause, stop)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    return entries


def _try(gateway: Gateway, redriving: Redriving, group: Sequence[Candidate], entries: list[str]) -> str:
    """One call; what went wrong with it as a whole, empty when nothing did."""
    try:
        response = gateway.redrive(redriving.request(group, look=False))
    except (Refused, NotRunning) as error:
        if not _passes(error):
            raise
        return str(error)
    if response.audit_entry_id:
        entries.append(response.audit_entry_id)
    _answer(group, response)
    return ""


def _passes(error: Exception) -> bool:
    """Whether it may be otherwise in a moment: an outage, which is nobody's fault who asks."""
    return isinstance(error, Refused) and str(error).startswith(
        ("BUS_UNAVAILABLE", "OVERLOADED", "DRAINING", "DEADLINE_EXCEEDED", "STORAGE_UNAVAILABLE")
    )


def _answer(group: Sequence[Candidate], response: messages.RedriveEventsResponse) -> None:
    for candidate, result in zip(group, response.results, strict=True):
        candidate.result = result


def _sleep(seconds: float, stop: Stop) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop():
        time.sleep(0.1)
