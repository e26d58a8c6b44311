"""Requests are let in or refused, to the source that sends too much and to no other."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from gateway.errors import RateLimited
from gateway.http.problems import problem_response
from gateway.limits.adaptive import Bounds
from gateway.limits.limiter import MAX_REMEMBERED, STALL_NS, Limiter
from gateway.sources import Source, SourceLimits
from mesh.errors import Overloaded
from mesh.status import rpc_status
from tests.mesh.rpc import Recorder

SECOND = 1_000_000_000
WEB = Source("shop", "web", frozenset({2}))
APP = Source("shop", "app", frozenset({2}))
TEN_A_SECOND = SourceLimits(10, 20)


class Ticks:
    """A clock that is set."""

    now = 5 * SECOND

    def __call__(self) -> int:
        """The time."""
        return self.now


def limiter(default: SourceLimits | None = None, bounds: Bounds | None = None) -> tuple[Limiter, Ticks]:
    """A limiter and its clock."""
    ticks = Ticks()
    return Limiter(Recorder().telemetry.meter, default, bounds, ticks), ticks


def test_without_a_rate_nothing_is_counted_or_told() -> None:
    """A source without a limit sends what it wants, and no field speaks of one."""
    gate, _ = limiter()
    for _ in range(100):
        gate.check(WEB)
        gate.leave(gate.enter(WEB, 100, 100), answered=True)
    assert gate.fields(WEB) == ()


def test_a_source_gets_its_burst_and_then_its_rate() -> None:
    """The refusal says when to come again, and until then costs no decoding."""
    gate, ticks = limiter(TEN_A_SECOND)
    gate.leave(gate.enter(WEB, 20, 20), answered=True)
    with pytest.raises(RateLimited) as refusal:
        gate.enter(WEB, 15, 15)
    assert refusal.value.metadata["retry_after_seconds"] == "2"
    with pytest.raises(RateLimited):
        gate.check(WEB)
    ticks.now += SECOND * 3 // 2
    gate.check(WEB)
    gate.enter(WEB, 15, 15)


def test_each_source_has_its_own_rate() -> None:
    """One that has used up its own leaves the other's alone; a source's own limits go before the default."""
    gate, _ = limiter(TEN_A_SECOND)
    gate.enter(WEB, 20, 20)
    with pytest.raises(RateLimited):
        gate.enter(WEB, 1, 1)
    gate.enter(APP, 20, 20)
    own = Source("shop", "own", frozenset({2}), SourceLimits(1000, 500))
    gate.enter(own, 500, 500)
    with pytest.raises(RateLimited):
        gate.enter(own, 1, 1)


def test_limits_that_change_hold_at_once() -> None:
    """A source that comes back with other limits is kept to those, and what it owes stays."""
    gate, ticks = limiter()
    slow, fast = (Source("shop", "web", frozenset({2}), limits) for limits in (TEN_A_SECOND, SourceLimits(100, 20)))
    gate.enter(slow, 20, 20)
    ticks.now += SECOND
    with pytest.raises(RateLimited):
        gate.enter(slow, 11, 11)
    ticks.now += SECOND
    gate.enter(fast, 20, 20)
    ticks.now += SECOND // 10
    gate.enter(fast, 10, 10)


def test_a_refused_request_takes_nothing_of_the_rate() -> None:
    """Whether it was the rate or the room that it lacked."""
    gate, _ = limiter(SourceLimits(10, 1_000), Bounds(least=10, most=20))
    gate.enter(WEB, 9, 9)
    with pytest.raises(RateLimited) as refusal:
        gate.enter(WEB, 9, 9)
    assert refusal.value.metadata["scope"] == "share"
    assert gate.fields(WEB)[0] == ("ratelimit", '"events";r=991;t=1')


def test_a_noisy_source_is_refused_its_excess_and_a_quiet_one_nothing() -> None:
    """429 for the one that fills the pipeline, never for the one that has an event now and then."""
    gate, _ = limiter(bounds=Bounds(least=100, most=1_000))
    let_in = refused = 0
    for _ in range(200):
        try:
            gate.enter(WEB, 10, 10)
            let_in += 1
        except RateLimited:
            refused += 1
        gate.leave(gate.enter(APP, 1, 1), answered=True)
    assert let_in * 10 == pytest.approx(500 * 2 / 3, abs=10)
    assert refused == 200 - let_in
    assert gate.in_flight == let_in * 10


def test_what_is_nobodys_fault_is_no_429() -> None:
    """Many sources that each have little, and together all, are told to send again without blame."""
    gate, _ = limiter(bounds=Bounds(least=100, most=100))
    for number in range(100):
        gate.enter(Source("shop", f"s{number}", frozenset({2})), 1, 1)
    with pytest.raises(Overloaded):
        gate.enter(WEB, 1, 1)
    assert gate.in_flight == 100


def test_an_outage_is_nobodys_fault() -> None:
    """While nothing at all is answered, a source that fills its share is told to come again without blame."""
    gate, ticks = limiter(bounds=Bounds(least=100, most=100))
    ticks.now += 10 * SECOND
    gate.enter(WEB, 60, 60)
    with pytest.raises(RateLimited):
        gate.enter(WEB, 30, 30)
    ticks.now += STALL_NS + 1
    with pytest.raises(Overloaded):
        gate.enter(WEB, 30, 30)
    gate.leave(gate.enter(APP, 1, 1), answered=True)
    with pytest.raises(RateLimited):
        gate.enter(WEB, 30, 30)


def test_the_limit_follows_the_answers() -> None:
    """Late answers let less in; what was given up late counts as late."""
    gate, ticks = limiter(bounds=Bounds(least=100, most=1_000))
    before = gate.value
    for _ in range(3):
        entered = gate.enter(WEB, 10, 10)
        ticks.now += 2 * SECOND
        gate.leave(entered, answered=False)
    assert gate.value < before
    assert gate.in_flight == 0


def test_the_fields_tell_what_is_left() -> None:
    """The draft's two fields, as structured fields: the quota, what is left of it, and when it is full again."""
    gate, ticks = limiter(TEN_A_SECOND)
    gate.enter(WEB, 15, 15)
    ticks.now += SECOND // 4
    assert dict(gate.fields(WEB)) == {
        "ratelimit": '"events";r=7;t=2',
        "ratelimit-policy": '"events";q=20;w=2;qu="events"',
    }


def test_a_refusal_outside_and_inside() -> None:
    """Outside a 429 problem with code, message, Retry-After and the two fields; inside RESOURCE_EXHAUSTED."""
    gate, _ = limiter(SourceLimits(0.001, 1))
    gate.enter(WEB, 1, 1)
    with pytest.raises(RateLimited) as refusal:
        gate.enter(WEB, 1, 1)
    response = problem_response(refusal.value, "0" * 32)
    assert response.status == 429
    assert dict(response.headers) == {
        "retry-after": "300",
        "ratelimit": '"events";r=0;t=1000',
        "ratelimit-policy": '"events";q=1;w=1000;qu="events"',
    }
    assert b'"code":"RATE_LIMITED"' in response.body
    assert b'"message":"the source sends more events a second' in response.body
    assert rpc_status(refusal.value).code == 8


def test_refusals_are_counted_by_source_and_cause() -> None:
    """Every event of every refused request, for whoever watches the gateway; and the limit as it stands."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    gate = Limiter(meter, TEN_A_SECOND, Bounds(least=10, most=60), Ticks())
    gate.enter(WEB, 20, 20)
    for _ in range(2):
        with pytest.raises(RateLimited):
            gate.enter(WEB, 5, 5)
    gate.enter(APP, 1, 1)
    with pytest.raises(RateLimited):
        gate.enter(APP, 19, 19)
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        (metric.name, *sorted(map(str, (point.attributes or {}).values())), point.value)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }
    assert found == {
        ("clew.limits.events", 30),
        ("clew.limits.refused", "rate", "shop", "web", 10),
        ("clew.limits.refused", "app", "share", "shop", 19),
    }


def test_what_is_remembered_is_bounded() -> None:
    """However many sources there are; one that owes something is remembered longer than one that does not."""
    gate, ticks = limiter(TEN_A_SECOND)
    gate.leave(gate.enter(WEB, 20, 20), answered=True)
    entered = gate.enter(APP, 1, 1)
    for number in range(3 * MAX_REMEMBERED):
        ticks.now += 100
        gate.check(Source("shop", f"s{number}", frozenset({2})))
    assert len(gate._standings) <= MAX_REMEMBERED
    with pytest.raises(RateLimited):
        gate.check(WEB)
    gate.leave(entered, answered=True)
    assert gate.in_flight == 0
