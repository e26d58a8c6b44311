"""The auditor finds what is planted, and nothing else."""

from collections.abc import Sequence

import pytest

from tests.faults.audit import NO_KILL, Claims, Copies, Copy, Double, Findings, Kill, audit

_KILLS = [Kill("identity", 10.0, 12.0), Kill("kafka", 20.0, 24.0), Kill("gateway-1", 30.0, 31.0)]


def _copies(**moments: Sequence[float]) -> Copies:
    return {name: [Copy(moment, 0, place) for place, moment in enumerate(times)] for name, times in moments.items()}


@pytest.fixture
def claims() -> Claims:
    """Three events accepted, one rejected, one filtered, and one of which nothing was heard."""
    claims = Claims(sent={"a", "b", "c", "bad", "private", "silent"})
    for name, verdict, moment in (
        ("a", "accepted", 5.0),
        ("b", "accepted", 15.0),
        ("c", "duplicate", 25.0),
        ("bad", "rejected", 26.0),
        ("private", "filtered", 27.0),
    ):
        claims.tell(name, verdict, moment)
    return claims


def test_a_sound_run_has_no_findings(claims: Claims) -> None:
    """All that was acknowledged is there once; what was not acknowledged may be there or not."""
    failed = _copies(bad=[26.0])
    nothing: Findings = Findings({}, {}, [], [], 0)
    assert audit(claims, _copies(a=[5.0], b=[15.0], c=[25.0]), failed, _KILLS) == nothing
    assert audit(claims, _copies(a=[5.0], b=[15.0], c=[25.0], silent=[28.0]), failed, _KILLS) == nothing


def test_a_planted_loss_is_found(claims: Claims) -> None:
    """An accepted event that is not on the topic is lost, with the next kill after its answer; so is a rejected one."""
    findings = audit(claims, _copies(a=[5.0], c=[25.0]), {}, _KILLS)
    assert findings.lost == {"b": "kafka", "bad": "gateway-1"}
    assert not findings.doubled


def test_a_planted_double_is_found(claims: Claims) -> None:
    """A second copy is found, acknowledged or not, with the first kill after the first copy."""
    events = _copies(a=[5.0, 5.5], b=[15.0, 40.0], c=[25.0], silent=[29.0, 33.0])
    findings = audit(claims, events, _copies(bad=[26.0]), _KILLS)
    assert findings.doubled == {
        "a": Double(NO_KILL, [0.0, 0.5]),
        "b": Double("kafka", [-5.0, 20.0]),
        "silent": Double("gateway-1", [-1.0, 3.0]),
    }
    assert not findings.lost


def test_a_double_while_a_process_is_down_is_its_fault(claims: Claims) -> None:
    """A message that is sent for the first time during an outage and again before its end is the outage's."""
    events = _copies(a=[5.0], b=[21.0, 23.0], c=[25.0])
    assert audit(claims, events, _copies(bad=[26.0]), _KILLS).doubled == {"b": Double("kafka", [1.0, 3.0])}


def test_what_was_not_to_be_kept_is_found(claims: Claims) -> None:
    """An event that consent filtered, or that was rejected, must not be on the events topic."""
    events = _copies(a=[5.0], b=[15.0], c=[25.0], private=[27.0], bad=[26.0])
    assert audit(claims, events, _copies(bad=[26.0]), _KILLS).leaked == ["bad", "private"]


def test_what_was_not_to_be_filed_as_failed_is_found(claims: Claims) -> None:
    """An event that was accepted or filtered must not be on the failed topic, also where it is on the other one."""
    events = _copies(a=[5.0], b=[15.0], c=[25.0])
    assert audit(claims, events, _copies(bad=[26.0], b=[14.0], private=[27.0]), _KILLS).leaked == ["b", "private"]


def test_what_nobody_sent_is_found(claims: Claims) -> None:
    """A message id on the topic that no client sent is a finding too."""
    events = _copies(a=[5.0], b=[15.0], c=[25.0], x=[1.0])
    assert audit(claims, events, _copies(bad=[26.0]), _KILLS).strangers == ["x"]


def test_failed_events_may_stand_twice_and_are_counted(claims: Claims) -> None:
    """A rejected event that was sent again may lie on the failed topic twice."""
    findings = audit(claims, _copies(a=[5.0], b=[15.0], c=[25.0]), _copies(bad=[26.0, 26.5]), _KILLS)
    assert (findings.failed_again, findings.lost) == (1, {})


def test_duplicates_are_acknowledged_and_counted(claims: Claims) -> None:
    """The verdict `duplicate` promises that the event is there, as `accepted` does."""
    assert claims.duplicates == 1
    assert "c" in claims.accepted
    assert claims.acknowledged == 5
    assert claims.unanswered == {"silent"}


def test_an_unknown_verdict_is_an_error(claims: Claims) -> None:
    """A verdict that the auditor does not know is never taken for an acknowledgement."""
    with pytest.raises(ValueError, match="perhaps"):
        claims.tell("d", "perhaps", 1.0)
