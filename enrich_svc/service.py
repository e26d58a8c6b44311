"""The servicer: queries in, enrichments out."""

import asyncio
from typing import Any

import grpc

from clew.enrich.v1 import enrich_service_pb2, enrich_service_pb2_grpc
from enrich_svc.enrichment import Enricher
from mesh.streams.server import StreamOf

# Some 15 ms of work when no item was seen before; then health checks, cancellations and other calls get their turn.
ITEMS_PER_TURN = 256


class EnrichServicer(enrich_service_pb2_grpc.EnrichServiceServicer):
    """Answers each item of a batch with what the enricher derives from it; no item makes a batch fail."""

    def __init__(self, enricher: Enricher) -> None:
        self._enricher = enricher

    async def BatchEnrichEvents(  # noqa: N802 - the contract's name
        self,
        request: enrich_service_pb2.BatchEnrichEventsRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - grpc's signature
    ) -> enrich_service_pb2.BatchEnrichEventsResponse:
        """Derive an enrichment for each item, in order."""
        enrich = self._enricher.enrich
        response = enrich_service_pb2.BatchEnrichEventsResponse()
        items = request.items
        for start in range(0, len(items), ITEMS_PER_TURN):
            if start:
                await asyncio.sleep(0)
            for item in items[start : start + ITEMS_PER_TURN]:
                response.results.add().MergeFromString(enrich(item))
        return response

    StreamEnrichEvents = StreamOf(BatchEnrichEvents, enrich_service_pb2.StreamEnrichEventsResponse)  # type: ignore[assignment]
