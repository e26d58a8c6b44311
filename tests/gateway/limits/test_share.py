"""How much of the pipeline one source may take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.share import Room, room_for, weight

LIMIT, MOST = 9_000, 16_000


def fill(sources: int) -> list[int]:
    """Let sources, one after the other, take all that they can get, ten events a request; what each holds."""
    held = [0] * sources
    while True:
        before = list(held)
        for place in range(sources):
            active = sum(1 for own in held if own)
            room = room_for(10, held[place], total=sum(held), limit=LIMIT, most=MOST, sources=active)
            held[place] += 10 if room is Room.FREE else 0
        if held == before:
            return held


@pytest.mark.parametrize(("sources", "share"), [(1, 6_000), (2, 3_600), (4, 2_000)])
def test_busy_sources_share_alike_and_leave_room(sources: int, share: int) -> None:
    """One busy source gets two thirds of the limit, two get two fifths each, and a part stays free for others."""
    held = fill(sources)
    assert all(abs(own - share) <= 10 for own in held)
    assert sum(held) < LIMIT


@given(st.integers(0, 15_999), st.integers(1, 100))
def test_a_source_that_has_nothing_gets_in_whatever_the_others_hold(total: int, sources: int) -> None:
    """As long as memory allows it, the first request of a source passes, however low the limit has sunk."""
    room = room_for(1, 0, total=total, limit=1_000, most=MOST, sources=sources)
    assert room is Room.FREE


def test_a_request_that_is_larger_than_the_limit_passes_alone() -> None:
    """The largest request that the edge reads is not refused for ever."""
    assert room_for(5_000, 0, total=0, limit=1_000, most=MOST, sources=0) is Room.FREE
    assert room_for(5_000, 1, total=1, limit=1_000, most=MOST, sources=1) is Room.OWN_SHARE_TAKEN


@given(st.integers(1, 50), st.integers(0, 16_000))
def test_an_even_part_is_always_free(sources: int, total: int) -> None:
    """A source that holds little is let in even when the limit has sunk below what the others have in flight."""
    own = 1_000 // (sources + 1) // 2
    room = room_for(1, own, total=max(total, own), limit=1_000, most=MOST + 1, sources=sources)
    assert room is Room.FREE


def test_whose_fault_it_is() -> None:
    """A source that holds more than its even part is told so; one that does not is kept out by all the others."""
    assert room_for(10, 6_000, total=6_100, limit=LIMIT, most=MOST, sources=2) is Room.OWN_SHARE_TAKEN
    assert room_for(10, 9_000, total=16_000, limit=LIMIT, most=MOST, sources=2) is Room.OWN_SHARE_TAKEN
    assert room_for(10, 50, total=16_000, limit=LIMIT, most=MOST, sources=100) is Room.ALL_TAKEN
    assert room_for(10, 0, total=16_000, limit=LIMIT, most=MOST, sources=100) is Room.ALL_TAKEN


def test_large_events_weigh_by_their_bytes() -> None:
    """What is heavier counts: the number of events, or their size."""
    assert weight(10, 1_000) == 10
    assert weight(1, 32_768) == 8
    assert weight(2, 4 << 20) == 1_024
