"""How many tasks each process holds, by its own word: a collector for the measurement `clew.process.tasks`."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics

_TASKS: Final = "clew.process.tasks"
_SERVICE: Final = "service.name"


class TaskCollector(MetricsServiceServicer):
    """An OTLP collector that keeps the last number of tasks of each service."""

    def __init__(self) -> None:
        self.tasks: dict[str, int] = {}
        self._server = grpc.server(ThreadPoolExecutor(2))
        add_MetricsServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: ExportMetricsServiceRequest, context: Any) -> ExportMetricsServiceResponse:  # noqa: N802, ARG002 - OTLP's names
        """Take what a process has measured."""
        for resource in request.resource_metrics:
            count = _count(resource)
            if count is not None:
                self.tasks[_value(resource.resource.attributes)] = count
        return ExportMetricsServiceResponse()

    def close(self) -> None:
        """Listen no more."""
        self._server.stop(None).wait()


def _count(resource: ResourceMetrics) -> int | None:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            if metric.name == _TASKS:
                return int(metric.gauge.data_points[-1].as_int)
    return None


def _value(attributes: Any) -> str:
    found: list[KeyValue] = [each for each in attributes if each.key == _SERVICE]
    return str(found[0].value.string_value) if found else ""
