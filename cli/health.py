"""Whether a server says that it serves (grpc.health.v1)."""

import socket

import grpc
from grpc_health.v1 import health_pb2

_METHOD = "/grpc.health.v1.Health/Check"


def kafka_problem(bootstrap: str, seconds: float = 2.0) -> str:
    """What is wrong with Kafka's addresses, HOST:PORT with commas; empty when one of them takes connections."""
    problem = "no address"
    for address in filter(None, bootstrap.split(",")):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=seconds).close()
        except OSError as error:
            problem = f"{address} does not answer: {error.strerror or error}"
        except ValueError:
            return f"{address!r} is no HOST:PORT"
        else:
            return ""
    return problem


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
