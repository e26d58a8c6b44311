"""The tests of the edge run on both event loops: production uses uvloop, and asyncio's own is the reference."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that each test's coroutines run on."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
