"""The one thread that writes: takes what is queued, runs it in one transaction, and answers when that is on disk.

A commit costs one fsync however much stands in it, so the writes that queue up behind a commit share the next one.
Nothing waits for company: an idle writer commits a lone write at once.
"""

import asyncio
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mesh.errors import StorageUnavailable

# Bounds how long the first write of a group waits for the last one; far above what one fsync lets queue up.
MAX_GROUP = 1_000


@dataclass(slots=True, eq=False)
class Job:
    """One queued write, the future of its caller, and how it ended."""

    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Answer the caller; on the caller's loop. A caller that was cancelled in the meantime is past answering."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer:
    """Runs queued writes, in the order in which they were queued, on a thread and a connection of its own."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # A daemon: a process that dies from an error does not hang on its writer; an orderly one calls `stop`.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        """Queue a write; the future resolves on the running loop after the commit."""
        future = asyncio.get_running_loop().create_future()
        self._queue.put(Job(run, future))
        return future

    def stop(self) -> None:
        """Write all that is queued, then end the thread. Blocks until done."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._next_group()
            if group:
                self._commit(group)
                _settle_all(group)

    def _next_group(self) -> tuple[list[Job], bool]:
        """Wait for one write, then take along whatever is queued behind it."""
        group: list[Job] = []
        job = self._queue.get()
        while job is not None:
            group.append(job)
            if len(group) == MAX_GROUP:
                return group, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: list[Job]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in group:
                self._run_in_savepoint(job)
            self._connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - out of memory too: without this thread no write is ever answered
            self._fail(group, error)

    def _run_in_savepoint(self, job: Job) -> None:
        """Run one write so that its failure leaves the others of the group alone."""
        self._connection.execute("SAVEPOINT job")
        try:
            job.result = job.run(self._connection)
        except Exception as error:
            # A full disk or an I/O error makes SQLite roll back the whole transaction: then nobody's write stands.
            if not self._connection.in_transaction:
                raise
            job.error = storage_error(error)
            self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")

    def _fail(self, group: list[Job], cause: BaseException) -> None:
        # Where this fails as well, so does the BEGIN of the next group, which then comes here to roll back again.
        with suppress(Exception):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        for job in group:
            # One exception object each: a shared one would gather the tracebacks of all callers.
            job.error = job.error or (storage_error(cause) if isinstance(cause, sqlite3.Error) else _unavailable(cause))


def storage_error(error: Exception) -> Exception:
    """Turn a failure of the file into StorageUnavailable; a broken constraint or a caller's own error stays."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError) or not isinstance(error, sqlite3.Error):
        return error
    return _unavailable(error)


def _unavailable(cause: BaseException) -> StorageUnavailable:
    # SQLite's own words name tables and files: they stay with the cause, which is logged and never sent.
    unavailable = StorageUnavailable("the store could not be read or written")
    unavailable.__cause__ = cause
    return unavailable


def _settle_all(group: list[Job]) -> None:
    """Answer all callers with one wake-up per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in group:
        by_loop[job.future.get_loop()].append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_each, jobs)
        except RuntimeError:
            # The loop is closed: its callers are gone, and their writes are on disk all the same.
            continue


def _settle_each(jobs: list[Job]) -> None:
    for job in jobs:
        job.settle()
