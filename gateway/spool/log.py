"""The spool's files: segments that are appended to and removed when they are drained, and how far that has come.

    DIR/00000000000000000001.log    a segment, see `gateway/spool/framing.py`
    DIR/drained                     the position below which everything is done
    DIR/refused.log                 what could not be published for a reason that no waiting mends
    DIR/lock                        held by the process that has the spool open

All calls block, and one thread at a time may make them. Files are their owner's only: they hold personal data.
"""

import fcntl
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

from gateway.spool.framing import HEADER_BYTES, MAGIC, Frame, frame, frames, wanted
from mesh.errors import StorageUnavailable

_POSITION: Final = struct.Struct("<QQ")
_CHECKSUM: Final = struct.Struct("<I")
_BEGIN: Final = len(MAGIC)
_log = structlog.get_logger("gateway.spool")


class Position(NamedTuple):
    """A place between two records: the number of a segment, and an offset in it."""

    segment: int
    offset: int


class Stored(NamedTuple):
    """A record, and the position behind it."""

    payload: bytes
    end: Position


class SpoolLog:
    """The segments of one directory.

    Args:
        directory: Where they are.
        segment_bytes: A segment that has grown to this size is followed by another.
        lock: The descriptor that holds the directory.
    """

    def __init__(self, directory: Path, segment_bytes: int, lock: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._lock = lock
        self._sizes: dict[int, int] = {}
        self._file = -1
        self.head = Position(1, _BEGIN)
        """Below it everything is done."""

    @classmethod
    def open(cls, directory: Path, segment_bytes: int) -> Self:
        """Open or create a spool; a torn end is cut off.

        Raises:
            StorageUnavailable: The directory cannot be used, another process has it, or another version wrote it.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            log = cls(directory, segment_bytes, _lock(directory / "lock"))
            log._recover()
        except OSError as error:
            raise StorageUnavailable(f"the spool in {directory} cannot be used: {error}") from error
        return log

    @property
    def size(self) -> int:
        """Bytes that the segments take on disk."""
        return sum(self._sizes.values())

    @property
    def tail(self) -> Position:
        """Behind the last record."""
        last = max(self._sizes, default=0)
        return Position(last, self._sizes[last]) if last else self.head

    def append(self, records: list[bytes]) -> None:
        """Write framed records and return when they are on disk, all of them.

        Raises:
            OSError: They are not; none of them will be read.
        """
        number = self._writable()
        end = self._sizes[number]
        data = b"".join(records)
        try:
            _write_all(self._file, data, end)
            os.fdatasync(self._file)
        except OSError:
            # After a failed sync nobody knows what of the file is on disk: it gets no more.
            self._abandon(number, end)
            raise
        self._sizes[number] = end + len(data)

    def read(self, position: Position, most_bytes: int) -> list[Stored]:
        """The records from a position on, up to so many bytes or the end of a segment, at least one if there is any.

        Raises:
            OSError: The segment cannot be read.
        """
        number, offset = self._seek(position)
        size = self._sizes.get(number, 0)
        if offset >= size:
            return []
        with self._path(number).open("rb") as file:
            file.seek(offset)
            data = file.read(min(max(most_bytes, HEADER_BYTES), size - offset))
            if (whole := wanted(data)) > len(data):
                data += file.read(min(whole, size - offset) - len(data))
        return [Stored(payload, Position(number, offset + end)) for payload, end in frames(data)]

    def mark(self, position: Position) -> None:
        """Everything below the position is done; segments that end there are removed.

        Raises:
            OSError: That could not be written down; it is as before.
        """
        number, offset = self._seek(position)
        # Behind the last record: its segment goes too, so that an empty spool takes no space.
        done = offset >= self._sizes.get(number, 0)
        head = Position(number + 1, _BEGIN) if done else Position(number, offset)
        self._write_position(head)
        self.head = head
        self._remove_drained()

    def refuse(self, payload: bytes) -> None:
        """Set a record aside, for people to look at.

        Raises:
            OSError: It could not be written.
        """
        path = self._directory / "refused.log"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(file).st_size
            data = frame(payload) if end else MAGIC + frame(payload)
            _write_all(file, data, end)
            os.fsync(file)
        finally:
            os.close(file)
        _sync_directory(self._directory)

    def close(self) -> None:
        """Let go of the files."""
        self._close_segment()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # From here on: how it is kept in order.

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:020}.log"

    def _seek(self, position: Position) -> Position:
        """The position, or where the next segment begins when it is at the end of one, or in one that is gone."""
        number, offset = position
        while offset >= self._sizes.get(number, 0):
            later = [other for other in self._sizes if other > number]
            if not later:
                break
            number, offset = min(later), _BEGIN
        return Position(number, offset)

    def _writable(self) -> int:
        """The number of the open segment, a new one where the last is full or was not begun by this process."""
        if self._file >= 0:
            number = max(self._sizes)
            if self._sizes[number] < self._segment_bytes:
                return number
            self._close_segment()
        number = max(self.tail.segment + 1 if self._sizes else self.head.segment, self.head.segment)
        self._file = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(self._file, MAGIC, 0)
            os.fsync(self._file)
            _sync_directory(self._directory)
        except OSError:
            self._abandon(number, _BEGIN)
            raise
        self._sizes[number] = _BEGIN
        return number

    def _abandon(self, number: int, end: int) -> None:
        """Write no more to the open segment; one without a record is removed, for a full disk fails again and again."""
        try:
            if end > _BEGIN:
                os.ftruncate(self._file, end)
            else:
                self._sizes.pop(number, None)
                self._path(number).unlink()
        except OSError as error:
            # What is there beyond the end is not read by this process. A later one may publish it: nobody was told that
            # it is kept, so its client sends it again, and claims keep the two apart.
            _log.warning("a segment could not be cut", problem=str(error))
        self._close_segment()

    def _close_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _remove_drained(self) -> None:
        for number in [number for number in self._sizes if number < self.head.segment]:
            if number == max(self._sizes):
                self._close_segment()
            self._path(number).unlink(missing_ok=True)
            del self._sizes[number]

    def _write_position(self, position: Position) -> None:
        data = _POSITION.pack(*position)
        path = self._directory / "drained"
        temporary = path.with_name("drained.new")
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, data + _CHECKSUM.pack(zlib.crc32(data)), 0)
            os.fsync(file)
        finally:
            os.close(file)
        # Lost with the directory's entry it would be the one before: then some is tried again, and claims know it.
        temporary.replace(path)

    def _recover(self) -> None:
        numbers = sorted(int(path.stem) for path in self._directory.glob("*.log") if path.stem.isdigit())
        head = _read_position(self._directory / "drained")
        self.head = head or Position(numbers[0] if numbers else 1, _BEGIN)
        for number in numbers:
            if number < self.head.segment:
                self._path(number).unlink()
            elif (end := self._check(number, last=number == numbers[-1])) > _BEGIN:
                self._sizes[number] = end
            else:
                self._path(number).unlink()

    def _check(self, number: int, *, last: bool) -> int:
        """Where a segment's valid records end; cuts off the rest of the last one."""
        path = self._path(number)
        data = path.read_bytes()
        if not _is_empty(data) and not data.startswith(MAGIC):
            raise StorageUnavailable(f"{path} was not written by this version of clew: drain it with the one that did")
        end = _BEGIN
        for each in frames(data, _BEGIN):
            end = each.end
        rest = len(data) - end
        if rest > 0 and last:
            _log.warning("a torn end was cut off", segment=number, bytes=rest)
            _truncate(path, end)
        elif rest > 0:
            # Not from a crash: it was followed by another segment, so all of it had been synced.
            _log.error("a segment is damaged; it is kept for people to look at", segment=number, bytes=rest)
            copy = path.with_suffix(".damaged")
            copy.unlink(missing_ok=True)
            copy.hardlink_to(path)
        return end


def _is_empty(data: bytes) -> bool:
    """Whether a segment holds nothing, not even all of its beginning: a crash leaves that torn, or zeros in its place.

    Less than a beginning is no other version's either, for no version keeps a record in it.
    """
    return len(data) < _BEGIN or (len(data) == _BEGIN and MAGIC.startswith(data.rstrip(b"\0")))


def read_refused(path: Path) -> list[Frame]:
    """What was set aside."""
    return list(frames(path.read_bytes(), _BEGIN))


def _lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise StorageUnavailable(f"another process has the spool in {path.parent}") from None
    return file


def _read_position(path: Path) -> Position | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    body, checksum = data[: _POSITION.size], data[_POSITION.size :]
    if len(body) != _POSITION.size or checksum != _CHECKSUM.pack(zlib.crc32(body)):
        _log.error("how far the spool is drained cannot be read; it is drained from its beginning")
        return None
    return Position(*_POSITION.unpack(body))


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _truncate(path: Path, end: int) -> None:
    with path.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
