"""Fixtures for tests of the mechanism."""

from collections.abc import AsyncIterator

import pytest

from tests.mesh.rpc import Mesh, Recorder, running_mesh


@pytest.fixture
def recorder() -> Recorder:
    """Telemetry in memory."""
    return Recorder()


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    """Servers and channels that end with the test."""
    async with running_mesh() as mesh:
        yield mesh
