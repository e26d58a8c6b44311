"""What `make bench` plans and reports."""

from dataclasses import replace

from bench.measure import Measurement, Subject
from bench.report import capacity, report
from bench.run import plan, turned
from bench.systems import System
from bench.workloads import WORKLOADS

_ONE = Measurement(
    system="clew",
    broker="kafka",
    workload="single-64",
    share=0.0,
    requests=5_000,
    events_per_second=1_000.0,
    p50_ms=1.0,
    p99_ms=2.0,
    p999_ms=3.0,
    cpu_us={"gateway": 100.0, "identity": 20.0},
    broker_cpu_us=7.0,
    pss_mib={"gateway": 90.0, "identity": 60.0},
    generator_cpu_us=15.0,
    errors={},
    steady=True,
)


def _round(clew: float, typical: float) -> list[Measurement]:
    return [replace(_ONE, events_per_second=clew), replace(_ONE, system="typical", events_per_second=typical)]


def test_a_row_shows_medians_and_the_median_of_the_ratios() -> None:
    """Ratios are taken within each round: a round in which all were slow counts as much as another."""
    text = report([_round(1_000, 100), _round(400, 20), _round(3_000, 200)])
    assert "| clew | 1,000 | 15.0 | 120 | gateway 100, identity 20 | 7 | 150 | 1.0 | 2.0 | 0 |" in text, text
    assert "| typical | 100 | 1.0 |" in text


def test_without_the_baseline_there_are_no_ratios() -> None:
    """A run of clew alone is reported all the same."""
    assert "| clew | 1,000 | - |" in report([[_ONE]])


def test_each_workload_and_broker_has_a_table_of_its_own() -> None:
    """What was not measured has none."""
    text = report([[_ONE, replace(_ONE, broker="embedded"), replace(_ONE, workload="batch-50")]])
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == [
        "### single events, 64 connections; broker: kafka",
        "### single events, 64 connections; broker: embedded",
        "### batches of 50, 16 connections; broker: kafka",
    ]


def test_one_in_a_thousand_needs_enough_answers() -> None:
    """p99.9 of few answers is left out, not made up; errors are told."""
    few = replace(_ONE, system="typical", share=0.9, requests=300, errors={"503": 4})
    text = report([[_ONE, replace(_ONE, share=0.5), few]])
    assert "| clew, 50% | 1,000 | 1.0 | 2.0 | 3.0 | 0 |" in text
    assert "| typical, 90% | 1,000 | 1.0 | 2.0 | - | 4 |" in text


def test_unsteady_measurements_are_counted() -> None:
    """The reader learns how often the machine changed its speed."""
    assert "moved during 1 of 2 measurements" in report([[_ONE, replace(_ONE, steady=False)]])


def test_capacity_is_the_median_of_the_closed_loops() -> None:
    """In requests a second, of the same system, broker and workload; 0 where nothing was measured."""
    batch = WORKLOADS["batch-50"]
    rounds = [[replace(_ONE, workload="batch-50", events_per_second=rate)] for rate in (5_000.0, 50_000.0, 10_000.0)]
    rounds[0].append(replace(_ONE, workload="batch-50", share=0.5, events_per_second=1.0))
    assert capacity(rounds, "clew", "kafka", batch) == 200
    assert capacity(rounds, "typical", "kafka", batch) == 0


def test_systems_take_turns_and_another_one_begins_each_round() -> None:
    """Within a workload all closed loops come before the open ones, which need the capacity; limits have none."""
    subjects = [Subject(System(name, []), "kafka") for name in ("clew", "typical", "produce")]
    steps = plan(subjects, [WORKLOADS["batch-50"]], [0.5])
    shown = [[(step.subject.system.name, step.share) for step in turned(steps, number)] for number in (0, 1)]
    assert shown[0] == [("clew", 0.0), ("typical", 0.0), ("produce", 0.0), ("clew", 0.5), ("typical", 0.5)]
    assert shown[1] == [("typical", 0.0), ("produce", 0.0), ("clew", 0.0), ("typical", 0.5), ("clew", 0.5)]
    assert {step.share for step in plan(subjects, [WORKLOADS["single-64"]], [0.5])} == {0.0}
