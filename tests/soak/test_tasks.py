"""The count of tasks goes all the way: a process's own measurement, over OTLP, to the collector of the soak."""

import asyncio

from mesh.telemetry import start_telemetry
from tests.soak.tasks import TaskCollector


async def test_a_process_tells_how_many_tasks_it_holds() -> None:
    """One that waits is counted until it has ended."""
    collector = TaskCollector()
    environ = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.endpoint}
    try:
        telemetry = start_telemetry("sleepy", None, environ)
        waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(telemetry.flush)
        many = collector.tasks["sleepy"]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.to_thread(telemetry.flush)
        assert many - collector.tasks["sleepy"] == 20
        await asyncio.to_thread(telemetry.shutdown)
    finally:
        collector.close()
