"""Channels to other services: one per upstream, made in main, closed by its maker."""

import asyncio
import json
from typing import Final

import grpc

from mesh.errors import UpstreamUnavailable
from mesh.interceptors.client import TracedChannel
from mesh.interceptors.instruments import Instruments
from mesh.server import MAX_MESSAGE_BYTES

# No `timeout` (it fires seconds early in Python, grpc/grpc#34547: each call carries its own) and no retry policy (most
# of our rpcs are not idempotent; what may be repeated is repeated by the caller who knows).
_SERVICE_CONFIG: Final = {
    "healthCheckConfig": {"serviceName": ""},
    "loadBalancingConfig": [
        {
            "outlier_detection_experimental": {
                "interval": "2s",
                "baseEjectionTime": "5s",
                "maxEjectionPercent": 50,
                # Below three addresses an ejection takes away more than it saves.
                "failurePercentageEjection": {"threshold": 80, "minimumHosts": 3, "requestVolume": 20},
                "childPolicy": [{"round_robin": {}}],
            }
        }
    ],
}

_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A proxy of the environment is for the internet: what goes between our services is not for it, nor would it arrive.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name: how long one attempt to connect may take at least.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def open_channel(target: str, *, service: str, telemetry: Instruments) -> TracedChannel:
    """Open a channel to an upstream; connecting goes on behind it.

    Args:
        target: gRPC name of the upstream: `HOST:PORT`, `dns:///HOST:PORT`, `ipv4:A:P,B:P`.
        service: Short name of the upstream, for spans and errors.
        telemetry: Where spans and measurements go.
    """
    inner = grpc.aio.insecure_channel(target, options=_OPTIONS)
    return TracedChannel(inner, target, service, telemetry)


async def wait_ready(channel: grpc.aio.Channel, seconds: float) -> None:
    """Wait until the upstream is connected and serving.

    Raises:
        UpstreamUnavailable: It is not, after so many seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            await channel.channel_ready()
    except TimeoutError:
        service = channel.service if isinstance(channel, TracedChannel) else "upstream"
        raise UpstreamUnavailable(service, f"not ready after {seconds:g} s") from None
