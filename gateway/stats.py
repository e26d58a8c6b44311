"""What became of all events since the process started.

received = published + duplicate + rejected + filtered + deferred + unanswered + in flight. An event that waits in the
spool is deferred until it is released, and then what became of it.
"""

from collections import Counter

from opentelemetry.metrics import Meter

from clew.collector.v1.collector_service_pb2 import VERDICT_DEFERRED, FilterReason, Verdict
from clew.event.v1.failed_event_pb2 import FailureReason
from gateway.batch import Outcome, Submission

_VERDICTS = {number: name.removeprefix("VERDICT_").lower() for name, number in Verdict.items()}
_FAILURES = {number: name.removeprefix("FAILURE_REASON_").lower() for name, number in FailureReason.items()}
_FILTERS = {number: name.removeprefix("FILTER_REASON_").lower() for name, number in FilterReason.items()}


def verdict_name(outcome: Outcome) -> str:
    """The verdict as tools read it: `accepted`, `duplicate`, `rejected`, `filtered` or `deferred`."""
    return _VERDICTS[outcome.verdict]


def reason_name(outcome: Outcome) -> str:
    """Why it was rejected or filtered, as tools read it; empty for what was accepted."""
    if outcome.failure_reason:
        return _FAILURES[outcome.failure_reason]
    return _FILTERS[outcome.filter_reason] if outcome.filter_reason else ""


_TOTALS = ("accepted", "duplicate", "rejected", "filtered", "deferred", "unanswered")
_Fate = tuple[Verdict.ValueType, FailureReason.ValueType, FilterReason.ValueType]
"""An outcome without its message id and detail; in a key None stands for events that were not answered."""
_Key = tuple[str, _Fate | None]


_DEFERRED: _Fate = Outcome("", VERDICT_DEFERRED)[1:4]


class _Row:
    """One count, and what it is of, in words."""

    __slots__ = ("attributes", "count")

    def __init__(self, source: str, fate: _Fate | None) -> None:
        outcome = None if fate is None else Outcome("", *fate)
        self.attributes = {
            "source": source,
            "verdict": "unanswered" if outcome is None else verdict_name(outcome),
            "reason": "" if outcome is None else reason_name(outcome),
        }
        self.count = 0


class Stats:
    """Counts events by source, verdict and reason.

    A request that is answered with an error counts as `unanswered`: its sender sends it again.
    """

    def __init__(self, meter: Meter) -> None:
        self._rows: dict[_Key, _Row] = {}
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
        self._add_outcomes(submission)

    def recovered(self, source: str, count: int) -> None:
        """Events wait in the spool that an earlier run has put there; they were measured then."""
        self._row((source, _DEFERRED)).count += count

    def released(self, submission: Submission) -> None:
        """A request's events have left the spool with an outcome each."""
        self._row((submission.source.name, _DEFERRED)).count -= submission.count
        self._add_outcomes(submission)

    def set_aside(self, source: str, count: int) -> None:
        """Events have left the spool without an outcome: they cannot be published."""
        self._row((source, _DEFERRED)).count -= count
        self._add((source, None), count)

    def _add_outcomes(self, submission: Submission) -> None:
        count, outcomes, source = submission.count, submission.outcomes, submission.source.name
        if submission.error is not None or len(outcomes) != count:
            self._add((source, None), count)
        elif count == 1:
            (outcome,) = outcomes.values()
            self._add((source, outcome[1:4]), 1)
        else:
            for fate, number in Counter(outcome[1:4] for outcome in outcomes.values()).items():
                self._add((source, fate), number)

    def _row(self, key: _Key) -> _Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row(*key)
        return row

    def _add(self, key: _Key, count: int) -> None:
        row = self._row(key)
        row.count += count
        self._events.add(count, row.attributes)

    def snapshot(self) -> dict[str, object]:
        """All counts, for the admin endpoint."""
        totals: Counter[str] = Counter()
        rows: list[dict[str, object]] = []
        for row in sorted(self._rows.values(), key=lambda row: tuple(row.attributes.values())):
            totals[row.attributes["verdict"]] += row.count
            rows.append({**row.attributes, "count": row.count})
        received = sum(totals.values()) + self.in_flight
        return {
            "received": received,
            **{name: totals[name] for name in _TOTALS},
            "in_flight": self.in_flight,
            "requests": self.requests,
            "by_source": rows,
        }
