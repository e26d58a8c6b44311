"""What became of all events since the process started.

received = published + duplicate + rejected + filtered + unanswered + in flight.
"""

from collections import Counter
from collections.abc import Iterable

from opentelemetry.metrics import Meter

from clew.collector.v1.collector_service_pb2 import FilterReason, Verdict
from clew.event.v1.failed_event_pb2 import FailureReason
from gateway.batch import Outcome, Submission

_VERDICTS = {number: name.removeprefix("VERDICT_").lower() for name, number in Verdict.items()}
_FAILURES = {number: name.removeprefix("FAILURE_REASON_").lower() for name, number in FailureReason.items()}
_FILTERS = {number: name.removeprefix("FILTER_REASON_").lower() for name, number in FilterReason.items()}


def verdict_name(outcome: Outcome) -> str:
    """The verdict as tools read it: `accepted`, `duplicate`, `rejected` or `filtered`."""
    return _VERDICTS[outcome.verdict]


def reason_name(outcome: Outcome) -> str:
    """Why it was rejected or filtered, as tools read it; empty for what was accepted."""
    if outcome.failure_reason:
        return _FAILURES[outcome.failure_reason]
    return _FILTERS[outcome.filter_reason] if outcome.filter_reason else ""


class Stats:
    """Counts events by source, verdict and reason.

    A request that is answered with an error counts as `unanswered`: its sender sends it again.
    """

    def __init__(self, meter: Meter) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.in_flight = 0
        self.requests = 0
        self._events = meter.create_counter(
            "clew.events", unit="{event}", description="Events by source, verdict and reason"
        )

    def begin(self, submission: Submission) -> None:
        """A request's events are in the pipeline from now on."""
        self.requests += 1
        self.in_flight += submission.count

    def end(self, submission: Submission) -> None:
        """A request's events have left the pipeline, with an outcome each or with none."""
        self.in_flight -= submission.count
        source = submission.source.name
        if submission.count == 1 == len(submission.outcomes) and submission.error is None:
            (outcome,) = submission.outcomes.values()
            self._add(source, verdict_name(outcome), reason_name(outcome), 1)
            return
        for (verdict, reason), count in _tally(submission).items():
            self._add(source, verdict, reason, count)

    def _add(self, source: str, verdict: str, reason: str, count: int) -> None:
        self._counts[source, verdict, reason] += count
        self._events.add(count, {"source": source, "verdict": verdict, "reason": reason})

    def snapshot(self) -> dict[str, object]:
        """All counts, for the admin endpoint."""
        totals: Counter[str] = Counter()
        rows: list[dict[str, object]] = []
        for (source, verdict, reason), count in sorted(self._counts.items()):
            totals[verdict] += count
            rows.append({"source": source, "verdict": verdict, "reason": reason, "count": count})
        received = sum(totals.values()) + self.in_flight
        return {
            "received": received,
            **{name: totals[name] for name in ("accepted", "duplicate", "rejected", "filtered", "unanswered")},
            "in_flight": self.in_flight,
            "requests": self.requests,
            "by_source": rows,
        }


def _tally(submission: Submission) -> Counter[tuple[str, str]]:
    if submission.error is not None or len(submission.outcomes) != submission.count:
        return Counter({("unanswered", ""): submission.count})
    return _by_verdict(submission.outcomes.values())


def _by_verdict(outcomes: Iterable[Outcome]) -> Counter[tuple[str, str]]:
    return Counter((verdict_name(outcome), reason_name(outcome)) for outcome in outcomes)
