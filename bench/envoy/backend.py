"""The service behind Envoy: `python -m bench.envoy.backend KAFKA TOPIC`. Prints its port."""

import asyncio
import json
import signal
import sys
from typing import Any

import grpc
import uvloop

from bench.typical.publisher import Publisher
from clew.collector.v1.collector_service_pb2 import (
    VERDICT_ACCEPTED,
    CollectEventsRequest,
    CollectEventsResponse,
    EventVerdict,
)
from clew.collector.v1.collector_service_pb2_grpc import (
    CollectorServiceServicer,
    add_CollectorServiceServicer_to_server,
)
from clew.event.v1.event_pb2 import Event


class Collector(CollectorServiceServicer):
    """Publishes what it is sent, under the visitor's own id."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def CollectEvents(self, request: CollectEventsRequest, _context: Any) -> CollectEventsResponse:  # noqa: N802
        """Answer once every event is acknowledged; what is not fails the call."""
        await asyncio.gather(*map(self._publish, request.events))
        verdicts = [EventVerdict(message_id=event.message_id, verdict=VERDICT_ACCEPTED) for event in request.events]
        return CollectEventsResponse(verdicts=verdicts)

    async def _publish(self, event: Event) -> None:
        key = event.user_id or event.anonymous_id
        await self._publisher.publish(key.encode(), event.SerializeToString(), [])


async def serve(kafka: str, topic: str) -> None:
    """Serve until SIGTERM."""
    publisher = Publisher(kafka, topic)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_CollectorServiceServicer_to_server(Collector(publisher), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop(1)
    publisher.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
