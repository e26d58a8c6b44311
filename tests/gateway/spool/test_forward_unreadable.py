"""Store and forward: records that cannot be read hold nothing up."""

from pathlib import Path

import msgspec
import pytest

from gateway.spool.deferral import State
from gateway.spool.framing import frame
from gateway.spool.log import SpoolLog, read_refused
from gateway.spool.record import encode, keep
from tests.gateway.scripted import SOURCE
from tests.gateway.spool.forwarding import (
    ACCEPTED,
    a_door,
    request,
    track,
)
from tests.mesh.rpc import eventually


def head_only(count: int) -> bytes:
    """A record of another version: what it counts can be read, what it holds cannot."""
    head = {"serial": 1, "workspace": SOURCE.workspace, "source": SOURCE.name, "received_ns": 1, "count": count}
    return msgspec.msgpack.encode({**head, "purposes": "changed"})


def readable(message_id: str) -> bytes:
    """A record of this version with one event."""
    return encode(keep(request(track(message_id)), 2))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("unreadable", "events"), [(head_only(3), 3), (b"\xff", 0)], ids=["head", "nothing"])
async def test_a_record_that_cannot_be_read_holds_nothing_up(
    tmp_path: Path, place: int, unreadable: bytes, events: int
) -> None:
    """Wherever it stands: it is set aside once, waits no longer, and a restart does not find it again."""
    directory = tmp_path / "spool"
    written = [readable("m-0"), readable("m-1")]
    written.insert(place, unreadable)
    log = SpoolLog.open(directory, 1 << 20)
    log.append([frame(payload) for payload in written])
    log.close()
    async with a_door(directory) as door:
        await door.drained()
        assert door.stage.published() == ["m-0", "m-1"]
        assert await door.send(track("m-2")) == [ACCEPTED]
        expected = {"received": 3 + events, "accepted": 3, "requests": 1}
        assert door.counts() == (expected | {"unanswered": events} if events else expected)
        assert door.forward.spool.by_source() == {}
    assert [each.payload for each in read_refused(directory / "refused.log")] == [unreadable]
    async with a_door(directory) as door:
        assert door.forward.carrier.state is State.OPEN
        assert door.counts() == {}
    assert len(read_refused(directory / "refused.log")) == 1


async def test_only_what_cannot_be_read_is_left(tmp_path: Path) -> None:
    """The way is opened, and stays open."""
    directory = tmp_path / "spool"
    log = SpoolLog.open(directory, 1 << 20)
    log.append([frame(head_only(2)), frame(head_only(1))])
    log.close()
    async with a_door(directory) as door:
        await door.drained()
        assert await door.send(track("m-1")) == [ACCEPTED]
        assert door.counts() == {"received": 4, "accepted": 1, "unanswered": 3, "requests": 1}
        await eventually(lambda: door.forward.spool.size == 0)
