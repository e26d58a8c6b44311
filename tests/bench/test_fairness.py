"""The report of the fairness measurement."""

from typing import Any

from bench.fairness import Scene, rise, row


def test_a_row_shows_medians_and_sums() -> None:
    """Latencies are medians over the rounds; what was accepted and refused is added up, by status and by source."""
    rounds = [
        ({"p50_ms": p50, "p99_ms": 2 * p50, "errors": {}}, {"requests": int(1000 * p50), "errors": errors})
        for p50, errors in ((1.0, {"429": 1500}), (3.0, {}), (2.0, {"429": 1, "503": 2}))
    ]
    shown = row(Scene("at 3 times its rate", "noisy", 3.0), rounds)
    assert shown == "| at 3 times its rate | 2.0 | 4.0 | none | 6,000 | 1,501 x 429, 2 x 503 |"


def test_a_rise_is_the_median_of_the_rounds_own() -> None:
    """Scenes are compared within a round, since the machine's speed changes between rounds; each round is shown."""
    before, after = _rounds(10.0, 20.0, 50.0), _rounds(11.0, 30.0, 40.0)
    assert rise(after, before) == "+10% (+10%, +50%, -20%)"


def _rounds(*p99_ms: float) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [({"p99_ms": each}, {}) for each in p99_ms]
