"""The spool's files: what was appended is there after a crash at any byte, and what is drained is gone."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.spool.framing import MAGIC, frame
from gateway.spool.log import SpoolLog, Stored, read_refused
from mesh.errors import StorageUnavailable

SEGMENT_BYTES = 64


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SpoolLog]:
    """An empty spool of small segments."""
    opened = SpoolLog.open(tmp_path / "spool", SEGMENT_BYTES)
    yield opened
    opened.close()


def append(log: SpoolLog, *payloads: bytes) -> None:
    """One group."""
    log.append([frame(payload) for payload in payloads])


def rest(log: SpoolLog, most_bytes: int = 1 << 20) -> list[Stored]:
    """Everything from the head on."""
    found: list[Stored] = []
    position = log.head
    while stored := log.read(position, most_bytes):
        found += stored
        position = stored[-1].end
    return found


def payloads(log: SpoolLog) -> list[bytes]:
    """What waits, in order."""
    return [stored.payload for stored in rest(log)]


def reopened(directory: Path) -> SpoolLog:
    """The spool as a new process finds it."""
    return SpoolLog.open(directory, SEGMENT_BYTES)


@pytest.mark.parametrize("most_bytes", [1, 8, 30, 1 << 20])
def test_records_are_read_in_order_over_segments(log: SpoolLog, most_bytes: int) -> None:
    """However little is read at a time, and also one that is larger than that."""
    written = [bytes([index]) * (1 + index * 7) for index in range(12)]
    for payload in written:
        append(log, payload)
    assert [stored.payload for stored in rest(log, most_bytes)] == written
    assert log.tail.segment > 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_crash_at_any_byte_keeps_what_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[bytes]]
) -> None:
    """The last group was being written: of it there is a beginning, of the others everything, and more can be added."""
    directory = tmp_path_factory.mktemp("torn") / "spool"
    log = reopened(directory)
    for group in groups[:-1]:
        append(log, *group)
    acknowledged = [payload for group in groups[:-1] for payload in group]
    before = log.tail
    append(log, *groups[-1])
    last, end = log.tail
    log.close()
    segment = directory / f"{last:020}.log"
    begin = before.offset if before.segment == last else 0
    for size in range(begin, end + 1):
        copy = directory.with_name("copy")
        shutil.copytree(directory, copy)
        os.truncate(copy / segment.name, size)
        after = reopened(copy)
        found = payloads(after)
        assert found[: len(acknowledged)] == acknowledged
        assert found == (acknowledged + groups[-1])[: len(found)]
        append(after, b"more")
        assert payloads(after) == [*found, b"more"]
        after.close()
        shutil.rmtree(copy)


def test_what_is_drained_is_not_read_again(log: SpoolLog, tmp_path: Path) -> None:
    """Not by a new process either; segments are removed as they are drained, and an empty spool takes no space."""
    written = [bytes([index]) * 20 for index in range(1, 10)]
    for payload in written:
        append(log, payload)
    stored = rest(log)
    for drained in range(len(stored)):
        log.mark(stored[drained].end)
        assert payloads(log) == written[drained + 1 :]
        log.close()
        log = reopened(tmp_path / "spool")
        assert payloads(log) == written[drained + 1 :]
    assert log.size == 0
    assert not list((tmp_path / "spool").glob("*.log"))
    append(log, b"next")
    assert payloads(log) == [b"next"]
    log.close()


def test_a_spool_that_was_drained_goes_on_with_another_segment(log: SpoolLog) -> None:
    """A position that was remembered before must not mean another record afterwards."""
    append(log, b"one")
    (one,) = rest(log)
    log.mark(one.end)
    append(log, b"two")
    (two,) = rest(log)
    assert two.end.segment > one.end.segment
    assert [stored.payload for stored in log.read(one.end, 1 << 20)] == [b"two"]


@pytest.mark.parametrize("content", [b"", b"short", bytes(20), b"\xff" * 20])
def test_a_lost_position_drains_from_the_beginning(log: SpoolLog, tmp_path: Path, content: bytes) -> None:
    """What was published is published twice by nobody, for claims know it; lost it would be for ever."""
    append(log, b"one", b"two")
    log.mark(rest(log)[0].end)
    log.close()
    (tmp_path / "spool" / "drained").write_bytes(content)
    log = reopened(tmp_path / "spool")
    assert payloads(log) == [b"one", b"two"]
    log.close()


def test_damage_in_the_middle_costs_no_other_segment(log: SpoolLog, tmp_path: Path) -> None:
    """The rest of the segment cannot be read; it is kept aside for people."""
    for index in range(1, 8):
        append(log, bytes([index]) * 30)
    last = log.tail.segment
    log.close()
    first = tmp_path / "spool" / f"{1:020}.log"
    data = bytearray(first.read_bytes())
    data[len(MAGIC) + 10] ^= 1
    first.write_bytes(data)
    log = reopened(tmp_path / "spool")
    assert payloads(log) == [bytes([index]) * 30 for index in range(1, 8)][2:]
    assert log.tail.segment == last
    assert first.with_suffix(".damaged").read_bytes() == bytes(data)
    log.close()


@pytest.mark.parametrize("kept", [b"", frame(b"one")])
def test_another_version_is_not_touched(log: SpoolLog, tmp_path: Path, kept: bytes) -> None:
    """It refuses to start, rather than to lose what the other has acknowledged."""
    append(log, b"one")
    log.close()
    segment = tmp_path / "spool" / f"{1:020}.log"
    segment.write_bytes(b"CLEWSPL2" + kept)
    with pytest.raises(StorageUnavailable, match="was not written by this version"):
        reopened(tmp_path / "spool")
    assert segment.exists()


def test_a_failed_write_leaves_nothing(log: SpoolLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was told that it failed sends again: none of it may be published, and the next write is whole."""
    append(log, b"one")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("gateway.spool.log.os.fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            append(log, b"two")
    append(log, b"three")
    assert payloads(log) == [b"one", b"three"]


@pytest.mark.parametrize("room", [0, 3, len(MAGIC), len(MAGIC) + 5])
def test_a_full_disk_leaves_no_file_behind(
    log: SpoolLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """However often a write fails, and wherever: what was acknowledged is found by the next run, which can start."""
    append(log, b"x" * SEGMENT_BYTES)
    before = sorted((tmp_path / "spool").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("gateway.spool.log.os.pwrite", _disk_with(room))
        for _ in range(20):
            with pytest.raises(OSError, match="No space left"):
                append(log, b"y" * SEGMENT_BYTES)
    assert sorted((tmp_path / "spool").iterdir()) == before
    assert payloads(log) == [b"x" * SEGMENT_BYTES]
    log.close()
    log = reopened(tmp_path / "spool")
    append(log, b"z")
    assert payloads(log) == [b"x" * SEGMENT_BYTES, b"z"]
    log.close()


def _disk_with(room: int) -> Callable[[int, memoryview, int], int]:
    """A disk on which a file has so many bytes; what comes behind them finds it full."""
    real = os.pwrite

    def pwrite(file: int, data: memoryview, offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: room - offset], offset)

    return pwrite


@pytest.mark.parametrize(
    "content", [*(MAGIC[:size] for size in range(len(MAGIC) + 1)), bytes(3), bytes(len(MAGIC)), MAGIC[:3] + bytes(5)]
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_that_a_crash_left_without_its_beginning_is_empty(
    log: SpoolLog, tmp_path: Path, content: bytes, number: int
) -> None:
    """Torn or zeros, alone, between others or last: it holds nothing, and nothing is refused for it."""
    append(log, b"x" * SEGMENT_BYTES)
    log.close()
    directory = tmp_path / "spool"
    (directory / f"{1:020}.log").rename(directory / f"{2:020}.log")
    segment = directory / f"{number:020}.log"
    acknowledged = [] if number == 2 else [b"x" * SEGMENT_BYTES]
    segment.write_bytes(content)
    log = reopened(directory)
    assert payloads(log) == acknowledged
    assert not segment.exists()
    append(log, b"more")
    assert payloads(log) == [*acknowledged, b"more"]
    log.close()


def test_only_the_owner_can_read_it(log: SpoolLog, tmp_path: Path) -> None:
    """It holds personal data."""
    append(log, b"one")
    log.refuse(b"two")
    log.mark(log.head)
    directory = tmp_path / "spool"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_two_processes_do_not_share_it(log: SpoolLog, tmp_path: Path) -> None:
    """The second one is told so."""
    append(log, b"one")
    with pytest.raises(StorageUnavailable, match="another process has the spool"):
        reopened(tmp_path / "spool")


def test_what_cannot_be_published_is_set_aside(log: SpoolLog, tmp_path: Path) -> None:
    """In a file of the same format, and not read as a segment."""
    log.refuse(b"one")
    log.refuse(b"two")
    assert [each.payload for each in read_refused(tmp_path / "spool" / "refused.log")] == [b"one", b"two"]
    log.close()
    log = reopened(tmp_path / "spool")
    assert payloads(log) == []
    log.close()
