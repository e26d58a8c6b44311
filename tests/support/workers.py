"""Which tests run in one worker when several run the suite, and when.

A module's tests stay together, for its fixtures are made once; so do those of modules that share what takes long to
start: the mesh of the end-to-end tests, once with the embedded broker and once with a real Kafka, and the real Kafka of
the buses' tests. What takes longest begins first, so that no worker is left with it at the end; what measures times
under a load of its own comes last, when the others have next to nothing left.
"""

import re
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_COMMON_MESH: Final = re.compile(r"tests/e2e/\w+\.py::\w+\[(embedded|kafka)\b")
_COMMON_KAFKA: Final = re.compile(r"tests/mesh/bus/test_(contract|tail|partitioner)\.py")
_LAST: Final = ("tests/e2e/test_broker_outage.py",)
_FIRST: Final = (
    "tests/e2e/test_exactly_once.py",
    "tests/e2e/",
    "tests/mesh/bus/",
    "tests/gateway/transcode/",
    "tests/gateway/claims/",
    "tests/identity_svc/",
    "",
)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Gives a worker all tests of a group, and the groups in the order of their first tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """The name of a test's group."""
    if found := _COMMON_MESH.match(nodeid):
        return f"mesh on {found[1]}"
    if _COMMON_KAFKA.match(nodeid):
        return "buses on kafka"
    return nodeid.partition("::")[0]


def turn_of(nodeid: str) -> int:
    """When a test's turn is: the lower, the earlier."""
    if nodeid.startswith(_LAST):
        return len(_FIRST)
    return next(turn for turn, prefix in enumerate(_FIRST) if nodeid.startswith(prefix))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """How tests are spread."""
    # xdist's own order would be by the number of a group's tests, and those that take longest have few.
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order of their turns."""
    items.sort(key=lambda item: turn_of(item.nodeid))
