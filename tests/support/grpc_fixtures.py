"""pytest-grpc for aio servicers: its server fixture serves sync ones only, so these run one on a background loop.

Import the fixtures into the conftest of the tests that use them, beside pytest-grpc's usual `grpc_add_to_server`,
`grpc_servicer` and `grpc_stub_cls`; its `grpc_stub`, `grpc_channel` and `grpc_create_channel` then work as documented:

    from tests.support.grpc_fixtures import grpc_addr, grpc_loop, grpc_server  # noqa: F401
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import pytest

T = TypeVar("T")

_PATIENCE_SECONDS = 30.0


class BackgroundLoop:
    """An event loop on a thread of its own; `run` lets a sync test or fixture await something there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc-loop")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result, or raise its error, here."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(_PATIENCE_SECONDS)

    def stop(self) -> None:
        """Stop the loop, end its thread and close it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class RunningServer:
    """A started aio server and the address that it listens on."""

    def __init__(self, server: grpc.aio.Server, address: str) -> None:
        self.server = server
        self.address = address


@pytest.fixture(scope="module")
def grpc_loop() -> Iterator[BackgroundLoop]:
    """The loop that the server runs on; fixtures open and close the servicer's stores on it."""
    loop = BackgroundLoop()
    yield loop
    loop.stop()


@pytest.fixture(scope="module")
def grpc_server(
    grpc_loop: BackgroundLoop,
    grpc_add_to_server: Callable[[Any, grpc.aio.Server], None],
    grpc_servicer: Any,
    grpc_interceptors: Sequence[grpc.aio.ServerInterceptor] | None,
) -> Iterator[RunningServer]:
    """The real servicer behind a real aio server, on a port that the system picks."""

    async def start() -> RunningServer:
        server = grpc.aio.server(interceptors=list(grpc_interceptors or ()))
        grpc_add_to_server(grpc_servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return RunningServer(server, f"127.0.0.1:{port}")

    running = grpc_loop.run(start())
    yield running
    grpc_loop.run(running.server.stop(grace=None))


@pytest.fixture(scope="module")
def grpc_addr(grpc_server: RunningServer) -> str:
    """Where the server listens: asked of the server, so that no other process can take the port in between."""
    return grpc_server.address
