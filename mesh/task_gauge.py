"""A measurement that shows leaks: how many tasks an event loop holds that have not ended."""

import asyncio
from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation


def add_task_gauge(meter: Meter, loop: asyncio.AbstractEventLoop) -> None:
    """Observe `clew.process.tasks`; asked for on the reader's thread, which `asyncio.all_tasks` allows."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(len(asyncio.all_tasks(loop)))]

    meter.create_observable_gauge(
        "clew.process.tasks", [observe], unit="{task}", description="Tasks of the event loop that have not ended"
    )
