"""One SQLite file that one process owns."""

import asyncio
import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from mesh.errors import StorageUnavailable
from mesh.sqlite.migrations import apply_migrations, load_migrations
from mesh.sqlite.writer import Writer, storage_error

T = TypeVar("T")

# How long a statement waits for SQLite's own short locks (a checkpoint, recovery after a crash).
_BUSY_SECONDS = 5.0


class Database:
    """A SQLite file in WAL mode: writes queue to one thread and commit in groups, reads run where they are called.

    `write` returns after the commit has reached the disk (`synchronous=FULL`); `read` sees all that was committed
    before it. The file is locked for as long as it is open, so that a second process fails at once instead of
    changing what this one keeps in memory. Make one with `open`; all methods are for one event loop's thread.
    """

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: Writer, resources: ExitStack) -> None:
        self.path = path
        self._reader = reader
        self._writer = writer
        self._resources = resources
        self._closed = False

    @classmethod
    def open(cls, path: Path | None, migrations: str | Traversable) -> Self:
        """Open or create the file, lock it and bring its schema up to date. Blocks: call it while the process starts.

        Args:
            path: the file, its folder is made when missing; None for a temporary one that is removed on close.
            migrations: dotted name of the package, or the directory, that holds the `NNNN_name.sql` files.

        Raises:
            StorageUnavailable: the file cannot be opened, is no database, or another process owns it.
            MigrationError: the schema cannot be brought up to date.
        """
        with ExitStack() as resources:
            file = path or Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="sqlite-"))) / "temporary.db"
            resources.callback(os.close, _lock(file))
            try:
                writing, reader = _connect_both(file, resources)
                apply_migrations(writing, load_migrations(migrations))
            except sqlite3.Error as error:
                raise StorageUnavailable(f"{file}: {error}") from error
            writer = Writer(writing, name=f"sqlite-{file.stem}")
            resources.callback(writer.stop)
            return cls(file, reader, writer, resources.pop_all())

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on the writer thread in a transaction and return its result once it is durable.

        Writes are applied in the order of the calls, in groups that commit together; one that raises is undone alone
        and its error is raised here. A caller that is cancelled does not stop a write that is queued. The function
        must not commit.

        Raises:
            StorageUnavailable: the file could not be written, or the database is closed.
        """
        return await self.submit(run)

    def submit(self, run: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Queue a write now and return its future: for writes that must keep the order in which they were decided."""
        if self._closed:
            raise StorageUnavailable("the database is closed")
        return cast("asyncio.Future[T]", self._writer.submit(run))

    def read(self) -> sqlite3.Connection:
        """Return the read-only connection. Fetch all rows before the next await: a half-read SELECT pins the log.

        Raises:
            StorageUnavailable: the database is closed.
        """
        if self._closed:
            raise StorageUnavailable("the database is closed")
        return self._reader

    def fetch_all(self, sql: str, parameters: tuple[object, ...] | dict[str, object] = ()) -> list[Any]:
        """Run one SELECT and return all of its rows.

        Raises:
            StorageUnavailable: the file could not be read, or the database is closed.
        """
        connection = self.read()
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise storage_error(error) from error

    async def close(self) -> None:
        """Refuse new writes, commit what is queued, close the file and release its lock. Idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(None, self._resources.close)


def _connect_both(path: Path, resources: ExitStack) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open the writing connection, then the reading one: only the first can make the file a WAL database."""
    writing = _connect(path, resources)
    writing.execute("PRAGMA journal_mode = WAL")
    writing.execute("PRAGMA synchronous = FULL")
    reading = _connect(path, resources)
    reading.execute("PRAGMA query_only = ON")
    return writing, reading


def _connect(path: Path, resources: ExitStack) -> sqlite3.Connection:
    # Autocommit: transactions begin and end where we say so, not where the module guesses.
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    resources.callback(connection.close)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _lock(path: Path) -> int:
    """Take the lock file beside the database; the system drops it when the process ends, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 32, 0).decode(errors="replace") or "unknown"
        os.close(lock)
        raise StorageUnavailable(f"{path} is in use by process {owner}: one process owns it at a time") from error
    # Only for the message above: a full disk is for SQLite to tell.
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock
