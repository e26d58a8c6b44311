"""The process itself: `python -m enrich_svc`."""

import signal
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clew.enrich.v1 import enrich_service_pb2 as service
from clew.enrich.v1.enrich_service_pb2_grpc import EnrichServiceStub
from tests.support.service_process import port_of, serving, started

MODULE = "enrich_svc"


def test_it_serves_and_drains() -> None:
    """It is SERVING once it says so, enriches by the database of countries, and SIGTERM ends it with 0."""
    with started(MODULE) as process:
        with grpc.insecure_channel(f"127.0.0.1:{port_of(process)}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            status = health.Check(health_pb2.HealthCheckRequest(service="clew.enrich.v1.EnrichService"), timeout=10)
            assert status.status == health_pb2.HealthCheckResponse.SERVING
            request = service.BatchEnrichEventsRequest(items=[service.EnrichmentQuery(ip="133.242.0.17")])
            response = EnrichServiceStub(channel).BatchEnrichEvents(request, timeout=10)
            assert response.results[0].geo.country == "JP"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_batch_that_breaks_the_contract_is_refused() -> None:
    """An item that is too long refuses the call: limits are the contract's, not the rules'."""
    with serving(MODULE) as (_, channel):
        request = service.BatchEnrichEventsRequest(items=[service.EnrichmentQuery(locale="x" * 65)])
        with pytest.raises(grpc.RpcError) as refused:
            EnrichServiceStub(channel).BatchEnrichEvents(request, timeout=10)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("entries", ["0", "99999999999999999999"])
def test_a_wrong_setting_is_named(entries: str) -> None:
    """A cache that cannot be is refused before anything starts, with status 2."""
    with started(MODULE, CLEW_ENRICH_CACHE_ENTRIES=entries) as process:
        _, message = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "CLEW_ENRICH_CACHE_ENTRIES" in message
