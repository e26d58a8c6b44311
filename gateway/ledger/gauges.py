"""Measurements of claims: what is under way, and what is not durable yet."""

from collections.abc import Callable
from typing import TypeAlias

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from gateway.claims.claims import Claims

Count: TypeAlias = Callable[[], int]


def add_gauges(meter: Meter, claims: Claims) -> None:
    """Observe the claims: `clew.claims.in_flight`, `.unknown` and `.unwritten`, in events."""

    def gauge(name: str, description: str, count: Count) -> None:
        def observe(_: CallbackOptions) -> list[Observation]:
            return [Observation(count())]

        meter.create_observable_gauge(name, [observe], unit="{event}", description=description)

    gauge("clew.claims.in_flight", "Events whose outcome is not known", claims.in_flight)
    gauge(
        "clew.claims.unknown",
        "Records of which nobody said whether they are stored, until the topics are read",
        lambda: sum(len(claim.unknown) for claim in list(claims.unknown)),
    )
    gauge(
        "clew.claims.unwritten",
        "Published events that the store does not know yet",
        lambda: len(claims.journal.recent),
    )
