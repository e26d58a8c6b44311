"""What the clients send."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of `batch` events each (0: one event to a call's own path) over so many keep-alive connections.

    `latency`: whether open loops are of interest; how many connections there are matters to closed ones only.
    """

    key: str
    name: str
    batch: int
    connections: int
    latency: bool = True

    @property
    def events_per_request(self) -> int:
        """How many events a request carries."""
        return self.batch or 1


WORKLOADS = {
    workload.key: workload
    for workload in (
        Workload("single-64", "single events, 64 connections", 0, 64, latency=False),
        Workload("single-256", "single events, 256 connections", 0, 256),
        Workload("single-1024", "single events, 1,024 connections", 0, 1_024, latency=False),
        Workload("batch-50", "batches of 50, 16 connections", 50, 16),
        Workload("batch-100", "batches of 100, 16 connections", 100, 16, latency=False),
    )
}
"""Every workload by the name that `--workloads` takes."""
