"""How the suite is spread over workers."""

import pytest

from tests.support.workers import group_of, turn_of


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_traces.py::test_a[embedded]", "mesh on embedded"),
        ("tests/e2e/test_sdks.py::test_b[kafka-rudder-node]", "mesh on kafka"),
        ("tests/e2e/test_sdks.py::test_c[kafkaesque]", "tests/e2e/test_sdks.py"),
        ("tests/e2e/test_spool.py::test_d", "tests/e2e/test_spool.py"),
        ("tests/mesh/bus/test_tail.py::test_e[kafka]", "buses on kafka"),
        ("tests/mesh/bus/test_contract.py::test_f[memory]", "buses on kafka"),
        ("tests/mesh/bus/test_local_kafka.py::test_g", "tests/mesh/bus/test_local_kafka.py"),
        ("tests/gateway/test_tap.py::test_h[a::b]", "tests/gateway/test_tap.py"),
    ],
)
def test_what_shares_a_fixture_shares_a_worker(nodeid: str, group: str) -> None:
    """A module is a group, and so are the modules that use one mesh or one Kafka."""
    assert group_of(nodeid) == group


def test_long_ones_first_and_measured_ones_last() -> None:
    """Whole meshes before single functions; what measures times under its own load when the others are done."""
    modules = [
        "tests/e2e/test_exactly_once.py",
        "tests/e2e/test_traces.py",
        "tests/mesh/bus/test_contract.py",
        "tests/gateway/test_tap.py",
        "tests/e2e/test_broker_outage.py",
    ]
    turns = [turn_of(f"{module}::test_x") for module in modules]
    assert turns == sorted(set(turns))
