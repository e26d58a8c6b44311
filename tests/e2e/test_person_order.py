"""A person's order over a login, on a real Kafka: mixed clients, two gateways that share PostgreSQL, one consumer."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.gateways import gateway
from tests.faults.order import CALLS, play
from tests.support.mesh import RunningMesh, running_mesh
from tests.support.requirements import require
from tests.support.topics import PROFILES, Received, TopicReader
from tools.kafka.cluster import running_kafka

pytestmark = pytest.mark.timeout(240)

# `make test-faults` has a thousand.
VISITORS = 48


@dataclass(frozen=True, slots=True)
class TwoGateways:
    """Where the visitors go."""

    gateways: Sequence[str]
    write_key: str
    kafka: str


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """The services; its own gateway takes no events."""
    require("java")
    require("mvn")
    with running_kafka() as kafka, running_mesh(tmp_path / "data", "--kafka", kafka.bootstrap) as running:
        yield running


def read_aliases(place: TwoGateways) -> list[Received]:
    """The aliases, as a data team reads them."""
    reader = TopicReader(place.kafka, f"{place.gateways[0]}/registry", PROFILES)
    try:
        return list(reader.now())
    finally:
        reader.close()


def check_aliases(records: list[Received]) -> None:
    """Each stands under its profile, names all that was merged, and has a barrier for what is new."""
    assert len(records) >= VISITORS // 4
    for record in records:
        alias = record.message
        assert (record.key, alias.epoch) == (alias.profile_id, len(alias.merged_profile_ids))
        assert {barrier.profile_id for barrier in alias.barriers} == set(alias.merged_profile_ids)
        assert all(barrier.offset >= 0 for barrier in alias.barriers)
        assert record.headers["clew-schema"].startswith("clew.identity.v1.ProfileChanged;")
    # Zero: the visitor's anonymous calls travelled with the login, and nothing was on their partition before.
    barriers = [barrier for record in records for barrier in record.message.barriers]
    assert sum(barrier.offset > 0 for barrier in barriers) > len(barriers) // 2
    # Logins came through both, and each says for itself what was merged.
    assert len({record.headers["clew-gateway"] for record in records}) == 2


async def test_a_persons_order_holds_over_a_login(mesh: RunningMesh, tmp_path: Path, postgres_url: str) -> None:
    """Ten anonymous calls, identify, ten known: by the documented rule no call is processed after a later one."""
    shared = {"CLEW_DATABASE": postgres_url}
    with gateway(mesh, tmp_path / "a", **shared) as first, gateway(mesh, tmp_path / "b", **shared) as second:
        place = TwoGateways((first.edge.url, second.edge.url), mesh.endpoints.write_key, mesh.endpoints.kafka)
        found = await play(place, VISITORS)
        check_aliases(await asyncio.to_thread(read_aliases, place))
    assert (found.inversions, found.stuck, found.missing, found.doubled) == (0, 0, 0, 0)
    assert found.calls == VISITORS * CALLS
    # The rule is what keeps it. Half of the users were known from before, and their logins merge profiles; those who
    # change gateways at the login stand under two keys for sure, the others unless all travelled in one batch.
    assert VISITORS // 4 <= found.split <= VISITORS // 2
    assert found.without_rule > 0
