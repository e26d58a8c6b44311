"""The counts: whatever happens to requests, received is the sum of all that became of their events."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeterProvider

from clew.collector.v1.collector_service_pb2 import FilterReason, Verdict
from clew.event.v1.failed_event_pb2 import FailureReason
from gateway.batch import Outcome, Submission
from gateway.decode.types import DecodedRequest
from gateway.sources import Source
from gateway.stats import Stats, reason_name, verdict_name
from mesh.errors import BusUnavailable
from tests.gateway.scripted import trace_of
from tests.mesh.rpc import Recorder

NAMES = ("accepted", "duplicate", "rejected", "filtered", "unanswered")
OUTCOMES = [
    Outcome("m", Verdict.VERDICT_ACCEPTED),
    Outcome("m", Verdict.VERDICT_DUPLICATE, FailureReason.FAILURE_REASON_DUPLICATE_MESSAGE_ID),
    Outcome("m", Verdict.VERDICT_REJECTED, FailureReason.FAILURE_REASON_TOO_DEEP),
    Outcome("m", Verdict.VERDICT_FILTERED, filter_reason=FilterReason.FILTER_REASON_CONSENT),
]


def _submission(count: int, source: str = "web") -> Submission:
    decoded = DecodedRequest(write_key="", events=[], rejected=[], count=count)
    return Submission(Source("shop", source, frozenset()), decoded, trace_of(1), 0, "", 0.0, 1)


def _stats() -> Stats:
    return Stats(NoOpMeterProvider().get_meter("test"))


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


FATES = st.lists(
    st.tuples(
        st.sampled_from(["web", "app"]),
        st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=5),
        st.sampled_from(["answered", "failed", "failed late", "cancelled", "in flight"]),
    )
)


@given(FATES)
def test_received_is_the_sum_of_all_that_became_of_the_events(fates: list[tuple[str, list[Outcome], str]]) -> None:
    """Answered, failed before or after some outcomes were known, cancelled, under way: no event is lost or doubled."""
    stats = _stats()
    for source, outcomes, fate in fates:
        submission = _submission(len(outcomes), source)
        stats.begin(submission)
        if fate in {"answered", "failed late"}:
            submission.outcomes = dict(enumerate(outcomes))
        if fate.startswith("failed"):
            submission.error = BusUnavailable()
        if fate == "cancelled":
            submission.outcomes = dict(list(enumerate(outcomes))[1:])
        if fate != "in flight":
            stats.end(submission)
    shown: dict[str, Any] = stats.snapshot()
    assert shown["received"] == sum(len(outcomes) for _, outcomes, _ in fates)
    assert shown["received"] == sum(shown[name] for name in NAMES) + shown["in_flight"]
    assert shown["in_flight"] == sum(len(outcomes) for _, outcomes, fate in fates if fate == "in flight")
    assert shown["accepted"] == sum(outcomes.count(OUTCOMES[0]) for _, outcomes, fate in fates if fate == "answered")
    assert sum(_number(row["count"]) for row in shown["by_source"]) == shown["received"] - shown["in_flight"]
    assert shown["requests"] == len(fates)


def test_counts_are_kept_by_source_verdict_and_reason() -> None:
    """Whose events were refused, and why, can be read without a trace."""
    stats = _stats()
    submission = _submission(3)
    submission.outcomes = {0: OUTCOMES[0], 1: OUTCOMES[2], 2: OUTCOMES[3]}
    stats.begin(submission)
    stats.end(submission)
    assert stats.snapshot()["by_source"] == [
        {"source": "web", "verdict": "accepted", "reason": "", "count": 1},
        {"source": "web", "verdict": "filtered", "reason": "consent", "count": 1},
        {"source": "web", "verdict": "rejected", "reason": "too_deep", "count": 1},
    ]


def test_a_request_that_was_refused_is_unanswered_even_when_outcomes_were_known() -> None:
    """Its sender sends it again: counting its events as accepted would count them twice."""
    stats = _stats()
    submission = _submission(1)
    stats.begin(submission)
    submission.outcomes = {0: OUTCOMES[0]}
    submission.error = BusUnavailable()
    stats.end(submission)
    shown = stats.snapshot()
    assert (shown["accepted"], shown["unanswered"], shown["in_flight"]) == (0, 1, 0)


def test_the_counter_that_is_exported_says_the_same() -> None:
    """`clew.events` has source, verdict and reason as attributes."""
    recorder = Recorder()
    stats = Stats(recorder.telemetry.meter)
    submission = _submission(2)
    submission.outcomes = {0: OUTCOMES[0], 1: OUTCOMES[0]}
    stats.begin(submission)
    stats.end(submission)
    data = recorder._reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert metric.name == "clew.events"
    assert dict(point.attributes or {}) == {"source": "web", "verdict": "accepted", "reason": ""}
    assert getattr(point, "value", None) == 2


def test_names_are_those_that_tools_read() -> None:
    """Lower case, without the enum's prefix; what was accepted has no reason."""
    assert [verdict_name(outcome) for outcome in OUTCOMES] == ["accepted", "duplicate", "rejected", "filtered"]
    assert [reason_name(outcome) for outcome in OUTCOMES] == ["", "duplicate_message_id", "too_deep", "consent"]
