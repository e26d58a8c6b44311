"""Where the interceptors' spans and measurements go."""

from typing import Protocol

from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer


class Instruments(Protocol):
    """The part of `mesh.telemetry.Telemetry` that interceptors use."""

    @property
    def tracer(self) -> Tracer:
        """Starts spans."""
        ...

    @property
    def meter(self) -> Meter:
        """Makes instruments."""
        ...
