"""Whether a server says that it serves (grpc.health.v1)."""

import grpc
from grpc_health.v1 import health_pb2

_METHOD = "/grpc.health.v1.Health/Check"


async def is_serving(target: str, seconds: float = 1.0) -> bool:
    """Whether the server at HOST:PORT reports SERVING; False as well when it cannot be reached within that time."""
    async with grpc.aio.insecure_channel(target) as channel:
        check = channel.unary_unary(
            _METHOD,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
